"""An HTTP client that takes next to nothing of the processors it shares with the service.

Requests are bytes made beforehand, connections stay open, and one loop serves all of them. It understands as
much of HTTP as our API answers: a status, a Content-Length, a body.
"""

import json
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any

_RECEIVE = 1 << 16

#: An answer counts only if the job ended as it must.
_PROOF = b'"verdict":"ok"'


class LoadError(Exception):
    """The service answered something else than a finished job; its times would mean nothing."""


def request(
    address: tuple[str, int],
    key: str,
    job: dict[str, Any],
    more: Mapping[str, str] | None = None,
    *,
    wait: bool = True,
) -> bytes:
    """A request that submits a job and, unless told otherwise, waits for its end. `more`: further headers."""
    body = json.dumps(job).encode()
    lines = (
        "POST /v1/jobs HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        *(["Prefer: wait=30"] if wait else []),
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in (more or {}).items()),
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def body_of(buffer: bytes | bytearray, status: int = 200) -> bytes | None:
    """The body of the answer in a buffer; None while it is not complete.

    Raises:
        LoadError: it is not one of this status with a length.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end]).lower()
    length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
    if not length.isdigit():
        raise LoadError(f"an answer without a length: {head!r}")
    body = bytes(buffer[end + 4 :])
    if len(body) < int(length):
        return None
    if not head.startswith(b"http/1.1 %d " % status):
        raise LoadError(f"{head.partition(bytes((13,)))[0]!r}: {body[:500]!r}")
    return body


def _checked(body: bytes) -> bytes:
    if _PROOF not in body:
        raise LoadError(f"a job that did not end well: {body[:500]!r}")
    return body


def connect(address: tuple[str, int]) -> socket.socket:
    """A connection that sends at once."""
    connection = socket.create_connection(address, timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@dataclass(frozen=True, slots=True)
class Answer:
    """A job as one client saw it."""

    ms: float
    job: dict[str, Any]


def one_by_one(address: tuple[str, int], wanted: bytes, count: int, pause_s: float = 0.0) -> list[Answer]:
    """One client, one job at a time."""
    return in_turn(address, repeat(wanted, count), pause_s)


def ask(connection: socket.socket, wanted: bytes, status: int = 200) -> bytes:
    """Make a request and wait for its answer; the body."""
    buffer = bytearray()
    connection.sendall(wanted)
    while (body := body_of(buffer, status)) is None:
        data = connection.recv(_RECEIVE)
        if not data:
            raise LoadError("the service hung up")
        buffer += data
    return body


def in_turn(address: tuple[str, int], requests: Iterable[bytes], pause_s: float = 0.0) -> list[Answer]:
    """One client that makes these requests one after the other."""
    answers = []
    with connect(address) as connection:
        for wanted in requests:
            began = time.perf_counter()
            body = ask(connection, wanted)
            ms = 1e3 * (time.perf_counter() - began)
            answers.append(Answer(ms, json.loads(_checked(body))))
            if pause_s:
                time.sleep(pause_s)
    return answers


@dataclass(frozen=True, slots=True)
class Load:
    """A stretch of time with several clients."""

    seconds: float
    ms: list[float]
    own_cpu_s: float

    @property
    def per_s(self) -> float:
        """Jobs per second."""
        return len(self.ms) / self.seconds


class _Client:
    def __init__(self, address: tuple[str, int], wanted: Callable[[], bytes]) -> None:
        self.socket = connect(address)
        self.buffer = bytearray()
        self._wanted = wanted
        self._began = 0.0

    def ask(self) -> None:
        """Send the next job. The kernel takes a request this small at once."""
        self._began = time.perf_counter()
        self.socket.sendall(self._wanted())

    def hear(self) -> float | None:
        """Take what there is; milliseconds if that ends the answer."""
        data = self.socket.recv(_RECEIVE)
        if not data:
            raise LoadError("the service hung up")
        self.buffer += data
        body = body_of(self.buffer)
        if body is None:
            return None
        self.buffer.clear()
        _checked(body)
        return 1e3 * (time.perf_counter() - self._began)


def load(
    address: tuple[str, int],
    wanted: bytes | Callable[[], bytes],
    clients: int,
    seconds: float,
    *,
    warm_s: float = 2.0,
    mark: Callable[[], None] = lambda: None,
) -> Load:
    """Each client sends a job as soon as its last is answered. `mark` is called as counting begins and ends.

    `wanted` is a request, or makes one for each job.
    """
    selector = selectors.EpollSelector()
    make = (lambda: wanted) if isinstance(wanted, bytes) else wanted
    connected = [_Client(address, make) for _ in range(clients)]
    times: list[float] = []
    counting, until, began, own = False, time.perf_counter() + warm_s, 0.0, 0.0
    try:
        for client in connected:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        while True:
            events = selector.select(max(0.0, min(30.0, until - time.perf_counter())))
            now = time.perf_counter()
            for key, _ in events:
                ms = key.data.hear()
                if ms is not None:
                    key.data.ask()
                    if counting:
                        times.append(ms)
            if now < until:
                continue
            if counting:
                taken = now - began
                own = time.process_time() - own
                mark()
                return Load(taken, times, own)
            mark()
            counting, began, own = True, time.perf_counter(), time.process_time()
            until = began + seconds
    finally:
        selector.close()
        for client in connected:
            client.socket.close()
