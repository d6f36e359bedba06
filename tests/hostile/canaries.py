"""What no hostile program may ever touch: a file, a secret, and listeners on addresses of this host."""

import hashlib
import secrets
import selectors
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker


def _gateway(engine: docker.DockerClient) -> str | None:
    """This host as containers on the engine's bridge would see it."""
    for entry in engine.networks.get("bridge").attrs["IPAM"]["Config"]:
        if gateway := entry.get("Gateway"):
            return str(gateway)
    return None


class Listeners:
    """TCP and UDP on loopback and on the bridge's gateway; `heard` must stay empty."""

    def __init__(self, engine: docker.DockerClient) -> None:
        self.heard: list[str] = []
        self.targets: list[tuple[str, int]] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        for host in filter(None, ("127.0.0.1", _gateway(engine))):
            with suppress(OSError):  # the engine is on another host: then there is nothing to aim at
                self._open(host)
        self._thread = threading.Thread(target=self._listen, name="canary-listeners", daemon=True)
        self._thread.start()

    def _open(self, host: str) -> None:
        stream = socket.create_server((host, 0))
        port = stream.getsockname()[1]
        packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        packets.bind((host, port))
        for listener in (stream, packets):
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        self.targets.append((host, port))

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                listener: Any = key.fileobj
                if listener is self._woken:
                    return
                if listener.type == socket.SOCK_STREAM:
                    connection, peer = listener.accept()
                    connection.close()
                else:
                    _, peer = listener.recvfrom(65536)
                self.heard.append(f"{listener.getsockname()} heard {peer}")

    def close(self) -> None:
        """Stop listening."""
        self._wake.close()
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            opened: Any = key.fileobj
            opened.close()
        self._selector.close()


class Canaries:
    """All of them."""

    def __init__(self, folder: Path, engine: docker.DockerClient) -> None:
        self.secret = f"canary-{secrets.token_hex(12)}"
        self.file = folder / "canary"
        self.file.write_text(f"{self.secret}\n")
        self.file.chmod(0o666)  # only the wall around a program keeps it from this file
        self._hash = self._look()
        self.listeners = Listeners(engine)

    def _look(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def touched(self) -> str | None:
        """What was touched; None if nothing."""
        if self._look() != self._hash:
            return "the canary file was changed"
        return "; ".join(self.listeners.heard) or None

    def close(self) -> None:
        """Stop listening."""
        self.listeners.close()
