"""The base image that every sandbox image starts from, also where no registry answers.

`ensure_base` tries in order: the image is there, `docker pull`, `mmdebstrap`, `debootstrap`. A bootstrapped
base is imported under the ordinary tag, so a plain `FROM debian:bookworm-slim` works everywhere. The tools
know their package mirror; `RETORT_APT_MIRROR` names another one.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import docker
import docker.errors

Progress = Callable[[str], None]

MIRROR_VARIABLE = "RETORT_APT_MIRROR"
BOOTSTRAP_TIMEOUT_S = 900

# What the official images carry: without the first file each layer keeps 90 MB of package cache.
APT_CONF = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
"""  # noqa: E501
DPKG_CONF = """\
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
"""
# Package scripts would try to start services; in an image nothing may start.
POLICY_RC = "#!/bin/sh\nexit 101\n"
FILES = {
    "etc/apt/apt.conf.d/docker-clean": (APT_CONF, 0o644),
    "etc/dpkg/dpkg.cfg.d/docker-slim": (DPKG_CONF, 0o644),
    "usr/sbin/policy-rc.d": (POLICY_RC, 0o755),
}


class BaseImageError(Exception):
    """The base image could be neither found, pulled nor bootstrapped; the message says what to do."""


def suite_of(base_image: str) -> str:
    """Return the Debian suite that a tag names: `bookworm` for `debian:bookworm-slim`.

    Raises BaseImageError for images that no bootstrap tool can make.
    """
    match = re.fullmatch(r"(?:docker\.io/)?(?:library/)?debian:([a-z]+)(?:-slim)?", base_image)
    if match is None:
        raise BaseImageError(
            f"{base_image} cannot be pulled, and only images named debian:<suite>[-slim] can be made here: "
            "load it into the engine by hand (docker load)"
        )
    return match[1]


def ensure_base(base_image: str, progress: Progress, client: docker.DockerClient | None = None) -> None:
    """Make sure that the engine has `base_image`; takes about 20 seconds if it must be bootstrapped.

    Raises BaseImageError when no way leads there.
    """
    engine = client or docker.from_env()
    try:
        engine.images.get(base_image)
    except docker.errors.ImageNotFound:
        pass
    else:
        return
    progress(f"pulling {base_image}")
    try:
        engine.images.pull(base_image)
    except docker.errors.DockerException as error:
        progress(f"no registry gave {base_image}: {_first_line(error)}")
    else:
        return
    suite = suite_of(base_image)
    tool = _find_tool(suite, progress)
    with tempfile.TemporaryDirectory(prefix="retort-base-") as folder:
        archive = Path(folder) / "base.tar"
        progress(f"bootstrapping {base_image} with {tool}")
        if tool == "mmdebstrap":
            _mmdebstrap(suite, archive)
        else:
            _debootstrap(suite, archive, Path(folder))
        _import(engine, archive, base_image)
    progress(f"imported {base_image}")


def _find_tool(suite: str, progress: Progress) -> str:
    """Return the bootstrap tool to use, installing one if we are root on a system with apt."""
    root = os.geteuid() == 0
    if not shutil.which("mmdebstrap") and not (root and shutil.which("debootstrap")):
        if root and shutil.which("apt-get"):
            progress("installing mmdebstrap")
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            # Without the archive keyring a host of another distribution could not check signatures.
            wanted = ["mmdebstrap", "debian-archive-keyring"]
            _run(["apt-get", "update", "-q"], environment, check=False)
            _run(["apt-get", "install", "-qy", "--no-install-recommends", *wanted], environment, check=False)
        if not shutil.which("mmdebstrap"):
            raise BaseImageError(
                f"no registry answers and the {suite} base cannot be bootstrapped without a tool: "
                "run `apt-get install mmdebstrap` as root, or `docker load` the base image, then try again"
            )
    return "mmdebstrap" if shutil.which("mmdebstrap") else "debootstrap"


def _mmdebstrap(suite: str, archive: Path) -> None:
    """Bootstrap with mmdebstrap: faster, and as an ordinary user too where user namespaces are allowed."""
    command = ["mmdebstrap", "--variant=minbase", "--quiet"]
    hooks = Path("/usr/share/mmdebstrap/hooks/merged-usr")
    if suite == "bookworm" and hooks.is_dir():
        # Else `usrmerge` converts the tree and brings 50 MB of perl along.
        command.append(f"--hook-dir={hooks}")
    # At once, so that documentation never gets in; the configuration stays for later packages.
    command += [f"--dpkgopt={line}" for line in DPKG_CONF.splitlines()]
    command += [suite, str(archive)]
    if mirror := os.environ.get(MIRROR_VARIABLE):
        command.append(mirror)
    _run(command, dict(os.environ))


def _debootstrap(suite: str, archive: Path, folder: Path) -> None:
    """Bootstrap with debootstrap; needs root."""
    tree = folder / "tree"
    command = ["debootstrap", "--variant=minbase", "--merged-usr", suite, str(tree)]
    mirror = os.environ.get(MIRROR_VARIABLE)
    _run([*command, mirror] if mirror else command, dict(os.environ))
    sources = tree / "etc/apt/sources.list"
    if not mirror and (found := re.match(rf"deb (\S+?)/? {suite} main", sources.read_text())):
        # This tool knows the release only; its mirror has the updates beside it.
        updates = f"deb {found[1]} {suite}-updates main\ndeb {found[1]}-security {suite}-security main\n"
        sources.write_text(sources.read_text().rstrip() + "\n" + updates)
    for unread in ("man", "info", "locale"):
        shutil.rmtree(tree / "usr/share" / unread, ignore_errors=True)
    for path in (tree / "usr/share/doc").rglob("*"):
        if path.name != "copyright" and (path.is_symlink() or path.is_file()):
            path.unlink()
    for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*", "var/log/*.log"):
        for leftover in tree.glob(pattern):
            leftover.unlink()
    _run(["tar", "-C", str(tree), "--numeric-owner", "-cf", str(archive), "."], dict(os.environ))


def _import(engine: docker.DockerClient, archive: Path, base_image: str) -> None:
    """Add our configuration to the archive and hand it to the engine."""
    with tarfile.open(archive, "a") as tar:
        for path, (text, mode) in FILES.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size, entry.mode = len(text), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
    repository, tag = base_image.rsplit(":", 1)
    try:
        with archive.open("rb") as data:
            engine.api.import_image_from_data(data, repository=repository, tag=tag, changes=['CMD ["bash"]'])
        engine.images.get(base_image)
    except docker.errors.DockerException as error:
        raise BaseImageError(f"the engine did not take the bootstrapped {base_image}: {error}") from error


def _run(command: list[str], environment: dict[str, str], *, check: bool = True) -> None:
    """Run a tool quietly; raise BaseImageError with the end of what it said if it fails."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=BOOTSTRAP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BaseImageError(f"{command[0]} did not end within {BOOTSTRAP_TIMEOUT_S} s") from error
    if check and done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BaseImageError(f"{command[0]} failed with exit code {done.returncode}:\n{tail}")


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "explanation", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
