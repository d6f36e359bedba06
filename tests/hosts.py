"""Hosts on one machine: each has a network of its own, in which it finds database, broker and model.

A network is a namespace with one pair of interfaces; its other end is here, where the servers of the tests are
forwarded to. Who is not root has no namespaces: then a host is a process on loopback, with a name of its own.
"""

import itertools
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import docker

from tests.conftest import Services
from tests.harness import Worker, containers, instance_name

#: Addresses that are nobody's: reserved for measurements of networks.
_NETWORK = "198.18"
_numbers = itertools.count(os.getpid() % 8000)


class Forward:
    """Listens on TCP and passes every connection on, to a Unix socket or another port of loopback."""

    def __init__(self, host: str, target: Path | int) -> None:
        self._target = target
        self._server = socket.create_server((host, 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, name="forward", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    there = self._connect()
                except OSError:
                    client.close()
                    continue
                for one, other in ((client, there), (there, client)):
                    threading.Thread(target=_pump, args=(one, other), name="forward", daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        there = socket.socket(socket.AF_UNIX)
        there.connect(str(self._target))
        return there


def _pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def may_have_namespaces() -> bool:
    """Whether this process may make networks."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


@contextmanager
def namespace() -> Iterator[tuple[str, Sequence[str]]]:
    """A network: our address in it, and the command that runs another one there."""
    if not may_have_namespaces():
        yield "127.0.0.1", ()
        return
    number = next(_numbers)
    name, here, there = f"retort{number}", f"rth{number}", f"rtg{number}"
    third, fourth = 128 + number // 64 % 128, number % 64 * 4
    ours, theirs = f"{_NETWORK}.{third}.{fourth + 1}", f"{_NETWORK}.{third}.{fourth + 2}"
    inside = ("ip", "netns", "exec", name)
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", here, "type", "veth", "peer", "name", there)
        _run("ip", "link", "set", there, "netns", name)
        _run("ip", "addr", "add", f"{ours}/30", "dev", here)
        _run("ip", "link", "set", here, "up")
        _run(*inside, "ip", "addr", "add", f"{theirs}/30", "dev", there)
        _run(*inside, "ip", "link", "set", there, "up")
        _run(*inside, "ip", "link", "set", "lo", "up")
        yield ours, inside
    finally:
        subprocess.run(["ip", "link", "del", here], check=False, capture_output=True)
        _run("ip", "netns", "del", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _socket_of(url: str) -> Path:
    """The Unix socket that an address of the tests' own servers names."""
    postgres = re.search(r"host=([^&]+)", url)
    if postgres:
        return Path(postgres[1].replace("%2F", "/")) / ".s.PGSQL.5432"
    return Path(url.removeprefix("unix://").partition("?")[0])


@dataclass
class Host:
    """A host, whose worker comes and goes."""

    folder: Path
    services: Services
    engine: docker.DockerClient
    closing: ExitStack
    gateway_port: int | None = None
    instance: str = field(default_factory=instance_name)
    worker: Worker | None = None
    _starts: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address, self.inside = self.closing.enter_context(namespace())
        self._ports = {
            name: self._forward(target)
            for name, target in (
                ("database", _socket_of(self.services.database_url)),
                ("broker", _socket_of(self.services.redis_url)),
                ("gateway", self.gateway_port),
            )
            if target is not None
        }

    def _forward(self, target: Path | int) -> int:
        forward = Forward(self.address, target)
        self.closing.callback(forward.close)
        return forward.port

    @property
    def urls(self) -> tuple[str, str]:
        """Database and broker, as this host knows them."""
        database = f"postgresql+psycopg://retort@{self.address}:{self._ports['database']}/retort"
        return database, f"redis://{self.address}:{self._ports['broker']}/0"

    @property
    def gateway_url(self) -> str:
        """The model's gateway, as this host knows it."""
        return f"http://{self.address}:{self._ports['gateway']}/v1"

    def start(self, *, environment: dict[str, str] | None = None, **settings: str) -> Worker:
        """Start its worker."""
        self._starts += 1
        self.worker = Worker(
            self.folder / f"log{self._starts}",
            *self.urls,
            instance=self.instance,
            environment={"NO_PROXY": "*", **(environment or {})},
            inside=self.inside,
            **settings,
        )
        self.closing.callback(self.worker.end, self.engine)
        return self.worker

    def containers(self) -> set[str]:
        """All of its containers."""
        return set(containers(self.engine, self.instance))
