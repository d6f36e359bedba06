"""The build context of a sandbox image: its folder, the runner, and the host's extra authorities."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from worker.sandbox.base import Progress

# The mirrors and proxies of the host, which a build on it needs as well.
PACKAGE_VARIABLES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "NPM_CONFIG_REGISTRY",
)
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
STOCK_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
STOCK_FOLDER = Path("/usr/share/ca-certificates")

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Content:
    """What decides an image's content, by paths in the context: files, and what was made of image.toml."""

    files: tuple[tuple[str, Path], ...]
    rendered: Mapping[str, bytes]

    @classmethod
    def of(cls, folders: Sequence[Path], shared: Mapping[str, Path], rendered: Mapping[str, bytes]) -> Content:
        """The files of `folders`, an earlier one's before a later one's of the same name, and of `shared`.

        Certificates are left out (they differ between hosts and never reach the image), and so is bytecode.
        """
        found: dict[str, Path] = {}
        for folder in folders:
            for path in folder.rglob("*"):
                name = path.relative_to(folder).as_posix()
                if path.is_file() and not name.startswith("certs/"):
                    found.setdefault(name, path)
        for prefix, folder in shared.items():
            for path in folder.rglob("*"):
                if path.is_file():
                    found[f"{prefix}/{path.relative_to(folder).as_posix()}"] = path
        return cls(
            tuple(sorted((name, path) for name, path in found.items() if "__pycache__" not in name)), rendered
        )

    def digest(self, start: str) -> str:
        """A hash of all this and of `start`, in hex."""
        digest = hashlib.sha256(start.encode())
        for name, path in self.files:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"\n{name} {_executable(path)} {content}".encode())
        for name, data in sorted(self.rendered.items()):
            digest.update(f"\n{name} {hashlib.sha256(data).hexdigest()}".encode())
        return digest.hexdigest()


def _executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


@contextmanager
def build_context(content: Content, certificates: Sequence[Path], progress: Progress) -> Iterator[IO[bytes]]:
    """Give the build context as an open, uncompressed tar file; `certificates` are folders with more of them.

    Owners and times are fixed, so that the engine's layer cache sees only content. Raises OSError if the
    runner is missing.
    """
    names = [name for name, _ in content.files]
    if "runner/__main__.py" not in names:
        raise FileNotFoundError("the runner is missing: no runner/__main__.py")
    with tempfile.TemporaryFile(prefix="retort-context-") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, path in content.files:
                _add(archive, name, path.read_bytes(), 0o755 if _executable(path) else 0o644)
            for name, data in sorted(content.rendered.items()):
                _add(archive, name, data, 0o644)
            # The Dockerfile copies this folder, so it must exist even without any certificate.
            _add(archive, "certs/.gitkeep", b"", 0o644)
            authorities = extra_authorities(os.environ)
            for path in sorted(path for folder in certificates for path in folder.glob("*.crt")):
                authorities += _certificates(path)
            for number, pem in enumerate(dict.fromkeys(authorities)):
                _add(archive, f"certs/host-{number}.crt", pem + b"\n", 0o644)
        if authorities:
            progress(f"the build stage trusts {len(set(authorities))} extra authorities of this host")
        file.seek(0)
        yield file


def extra_authorities(environment: Mapping[str, str], local: Path = LOCAL_AUTHORITIES) -> list[bytes]:
    """Return the certificates (PEM) that this host trusts and a stock Debian does not.

    Those are the administrator's folder and what the usual variables name, less what the distribution brings.
    """
    found: list[bytes] = []
    for path in sorted(local.rglob("*.crt")) if local.is_dir() else []:
        found += _certificates(path)
    named = {Path(value) for name in BUNDLE_VARIABLES if (value := environment.get(name))}
    bundles = {path for path in named if path.is_file() and path.resolve() != STOCK_BUNDLE.resolve()}
    if bundles:
        stock = set(_certificates(STOCK_BUNDLE))
        for path in STOCK_FOLDER.rglob("*.crt") if STOCK_FOLDER.is_dir() else []:
            stock.update(_certificates(path))
        for path in sorted(bundles):
            found += [pem for pem in _certificates(path) if pem not in stock]
    return list(dict.fromkeys(found))


def package_arguments(environment: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """Return the build arguments for package mirrors and proxies, and the build's network mode.

    A mirror or proxy on this host's loopback is out of reach from the engine's bridge: `host` for those.
    """
    names = [*PACKAGE_VARIABLES, *PROXY_VARIABLES, *(name.lower() for name in PROXY_VARIABLES)]
    arguments = {name: value for name in names if (value := environment.get(name))}
    addresses = [
        value for name, value in arguments.items() if name.upper() not in {"NO_PROXY", "PIP_TRUSTED_HOST"}
    ]
    local = any(_is_loopback(part) for value in addresses for part in value.split())
    return arguments, "host" if local else None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname if "://" in url else None
    return host is not None and (host in {"localhost", "::1"} or host.startswith("127."))


def _certificates(path: Path) -> list[bytes]:
    """Return the certificates of a PEM file, line ends made alike; none if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return [pem.replace(b"\r\n", b"\n") for pem in _PEM.findall(data)]


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))
