"""`make compose`: what `docker compose up` needs first. The tests use the same functions.

    python -m scripts.compose [--local]

Makes the secrets, builds the images and writes .env, which compose reads. The images of PostgreSQL and Valkey
are the official ones where a registry answers, else (or with `--local`) ones built here from the wheels.
"""

import argparse
import hashlib
import io
import os
import re
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import docker
import docker.errors
from docker.utils.build import exclude_paths

from retort import engine
from retort.state import StateFolder
from worker.sandbox.base import BaseImageError, ensure_base
from worker.sandbox.context import extra_authorities, package_arguments

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".retort" / "compose"
ENV_FILE = ROOT / ".env"
SECRETS = ("postgres_password", "valkey_password", "webhook_key")
TARGETS = ("service", "postgres", "valkey")
BUILD_SILENCE_S = 900

#: Targets of the Dockerfile that stand in for official images: the setting that names the image, its default.
SERVERS = {
    "postgres": ("RETORT_POSTGRES_IMAGE", "postgres:18"),
    "valkey": ("RETORT_VALKEY_IMAGE", "valkey/valkey:9"),
}

#: What they are made of.
SERVER_CONTENT = frozenset(
    {"Dockerfile", "requirements.txt", "pyproject.toml", "compose/dependencies.py", "compose/postgres.sh"}
)

Say = Callable[[str], None]


class ComposeError(Exception):
    """Something that compose needs cannot be had; the message says what to do."""


def command(say: Say) -> list[str]:
    """How compose is called here: `docker compose`, or `docker-compose`, installed if we may.

    Raises:
        ComposeError: there is none and we may not install it.
    """
    if shutil.which("docker") and _answers(["docker", "compose"]):
        return ["docker", "compose"]
    if not shutil.which("docker-compose") and os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing docker-compose")
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", "docker-compose"]):
            subprocess.run(["apt-get", "-qq", *words], env=env, capture_output=True, check=False)
    if shutil.which("docker-compose") and _answers(["docker-compose"]):
        return ["docker-compose"]
    raise ComposeError(
        "docker compose is not installed. On Debian or Ubuntu: sudo apt-get install docker-compose; elsewhere "
        "install the compose plugin of Docker (version 2), or docker-compose 1.29."
    )


def _answers(words: list[str]) -> bool:
    done = subprocess.run([*words, "version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def socket_file() -> Path:
    """The engine's socket on this machine, which the sandbox workers get.

    Raises:
        ComposeError: the engine is not on this machine.
    """
    url = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    if url.scheme != "unix":
        raise ComposeError("compose gives the engine's socket to the workers; DOCKER_HOST names no socket")
    return Path(url.path)


def make_secrets(folder: Path) -> None:
    """Passwords, the key for secrets of webhooks, once made never changed, and a place for keys of gateways.

    Compose hands files on with the owner and mode that they have here, and the users inside containers are
    none of this machine's. So the files can be read by all, and the folder entered by its owner alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ("secrets", "gateways"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o755)
    for name in SECRETS:
        file = folder / "secrets" / name
        if not file.exists():
            file.write_text(secrets.token_hex(32))
        file.chmod(0o444)


def content() -> list[tuple[str, Path]]:
    """What the images are built from, as (path in the context, file), sorted: .dockerignore says what.

    Certificates are left out, as they differ between hosts and never reach an image.
    """
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    paths = sorted(exclude_paths(str(ROOT), patterns))
    return [
        (path, ROOT / path)
        for path in paths
        if (ROOT / path).is_file() and not path.startswith("compose/certs/")
    ]


def tag(target: str) -> str:
    """The tag of an image as the tree wants it; the servers' depend only on what they are made of."""
    names = SERVER_CONTENT if target in SERVERS else None
    digest = hashlib.sha256(base_image().encode())
    for path, file in content():
        if names is None or path in names:
            executable = bool(file.stat().st_mode & 0o100)
            digest.update(f"\n{path} {executable} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return f"retort/{target}:{digest.hexdigest()[:12]}"


def base_image() -> str:
    """RETORT_SERVICE_BASE_IMAGE, or the default of the Dockerfile."""
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None  # noqa: S101 - ours
    return os.environ.get("RETORT_SERVICE_BASE_IMAGE") or found[1]


def build(target: str, say: Say, client: docker.DockerClient) -> str:
    """The tag of an image, built if the engine lacks it.

    Raises:
        ComposeError: it cannot be built; has the end of the log.
    """
    name = tag(target)
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        say(f"building {name}")
    else:
        return name
    arguments, network = package_arguments(os.environ)
    log: list[str] = []
    try:
        ensure_base(base_image(), say, client)
        with tempfile.TemporaryFile(prefix="retort-context-") as file:
            _write_context(file)
            file.seek(0)
            for event in client.api.build(
                fileobj=file,
                custom_context=True,
                tag=name,
                target=target,
                buildargs={"BASE_IMAGE": base_image(), **arguments},
                labels={"retort.image": target},
                network_mode=network,
                timeout=BUILD_SILENCE_S,
                rm=True,
                forcerm=True,
                decode=True,
            ):
                log += str(event.get("error") or event.get("stream") or "").splitlines()
        client.images.get(name)
    except (docker.errors.DockerException, BaseImageError, OSError) as error:
        end = "\n".join(log[-30:])
        raise ComposeError(f"building {name} failed: {error}\nThe end of the log:\n{end}") from error
    return name


def _write_context(file: IO[bytes]) -> None:
    """A tar of what is needed, owners and times fixed, so that the engine's cache sees only content."""

    def add(path: str, data: bytes, mode: int) -> None:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(data), mode
        archive.addfile(entry, io.BytesIO(data))

    with tarfile.open(fileobj=file, mode="w") as archive:
        for path, source in content():
            add(path, source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)
        certificates = ROOT / "compose" / "certs"
        found = [path.read_bytes() for path in sorted(certificates.glob("*.crt"))]
        add("compose/certs/.gitkeep", b"", 0o644)
        for number, pem in enumerate(dict.fromkeys([*extra_authorities(os.environ), *found])):
            add(f"compose/certs/host-{number}.crt", pem + b"\n", 0o644)


def images(say: Say, *, local: bool) -> dict[str, str]:
    """The settings that name the images, all of them there: official servers if they can be had."""
    client = docker.from_env()
    chosen = {"RETORT_IMAGE": build("service", say, client)}
    for target, (setting, official) in SERVERS.items():
        wanted = os.environ.get(setting)
        if wanted or (not local and _pulled(official, say, client)):
            chosen[setting] = wanted or official
        else:
            chosen[setting] = build(target, say, client)
    client.close()
    return chosen


def _pulled(image: str, say: Say, client: docker.DockerClient) -> bool:
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        say(f"pulling {image}")
        try:
            client.images.pull(image)
        except docker.errors.DockerException as error:
            say(f"no registry gave {image}: {str(error).splitlines()[0]}")
            return False
    return True


def settings(folder: Path, say: Say, *, local: bool) -> dict[str, str]:
    """Everything that docker-compose.yml asks for by name; the secrets are made on the way."""
    make_secrets(folder)
    docker_socket = socket_file()
    return {
        "RETORT_COMPOSE_DIR": str(folder),
        "RETORT_DOCKER_SOCKET": str(docker_socket),
        "RETORT_DOCKER_GID": str(docker_socket.stat().st_gid),
        **images(say, local=local),
    }


def merged(text: str, values: Mapping[str, str]) -> str:
    """The text of an .env file with these values; other lines stay as they are."""
    lines = [line for line in text.splitlines() if line.partition("=")[0].strip() not in values]
    return "\n".join([*lines, *(f"{name}={value}" for name, value in values.items())]) + "\n"


def main(arguments: list[str]) -> int:
    """See the module; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.compose", description="Prepare docker compose.")
    parser.add_argument("--local", action="store_true", help="build the servers' images too; ask no registry")
    chosen = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(f"compose: {line}", flush=True)

    try:
        engine.ensure(StateFolder(ROOT / ".retort"), say)
        words = command(say)
        values = settings(FOLDER, say, local=chosen.local)
    except (ComposeError, engine.EngineError) as reason:
        print(f"compose: {reason}", file=sys.stderr)
        return 1
    before = ENV_FILE.read_text() if ENV_FILE.exists() else "COMPOSE_PROJECT_NAME=retort\n"
    ENV_FILE.write_text(merged(before, values))
    say(f"ready; now: {' '.join(words)} up -d")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
