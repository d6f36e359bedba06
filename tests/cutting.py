"""A proxy that loses connections: what networks do to clients."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Cutting:
    """Passes bytes on, and cuts connections as it is told."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        #: For each connection to come: after how many bytes of answers it is cut. Those that follow are not.
        self.cuts: list[int] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            most = self.cuts.pop(0) if self.cuts else None
            server = socket.create_connection(self._target)
            for source, to, limit in ((client, server, None), (server, client, most)):
                threading.Thread(target=self._pump, args=(source, to, limit), daemon=True).start()

    def _pump(self, source: socket.socket, to: socket.socket, most: int | None) -> None:
        left = most
        with suppress(OSError):
            while data := source.recv(65536):
                if left is not None and len(data) > left:
                    to.sendall(data[:left])
                    break
                to.sendall(data)
                left = None if left is None else left - len(data)
        for each in (source, to):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def cutting(target: str) -> Iterator[Cutting]:
    """A proxy in front of a service."""
    proxy = Cutting(target)
    try:
        yield proxy
    finally:
        proxy.close()
