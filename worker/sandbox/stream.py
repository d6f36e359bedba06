"""The host's end of the stream to one container: bytes to the runner, whole frames from it."""

import select
import socket
import time
from collections import deque
from typing import Any

from worker.sandbox.engine import Attachment
from worker.sandbox.frames import Demultiplexer, Kind, ProtocolError, parse_object

#: Seconds that a runner may take to read what is sent to it: far above what it takes.
SEND_S = 20.0

#: Bytes to read at once: more than the engine sends in a piece, and few enough to be had without a system call.
_RECEIVE = 1 << 16


class CellLost(Exception):
    """The container or its runner failed, not the program in it."""


class NotBegun(CellLost):
    """It failed before it had the whole program: nothing of that has run."""


def checked_number(facts: dict[str, Any], name: str, most: float) -> float:
    """A number from 0 to `most` in what a runner said.

    Raises:
        CellLost: it is none.
    """
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise CellLost(f"the runner broke the protocol: {name}={value!r}")
    return value


def checked_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in a frame's payload.

    Raises:
        CellLost: it is none.
    """
    try:
        return parse_object(payload)
    except ProtocolError as e:
        raise CellLost(f"the runner broke the protocol: {e}") from e


class Stream:
    """An attached container's stream. Used by one thread at a time."""

    def __init__(self) -> None:
        self._attachment: Attachment | None = None
        self._socket: socket.socket | None = None
        self._demux = Demultiplexer()
        self._frames: deque[tuple[Kind, bytes]] = deque()

    def open(self, attachment: Attachment) -> None:
        """Take over an attachment."""
        self._attachment = attachment
        self._socket = attachment.socket
        self._socket.setblocking(False)

    def close(self) -> None:
        """Hang up. May be called twice."""
        attachment, self._attachment, self._socket = self._attachment, None, None
        if attachment is not None:
            attachment.close()

    @property
    def closed(self) -> bool:
        """Whether there is nothing to read from any more."""
        return self._socket is None

    def _readable(self, timeout_s: float) -> bool:
        # Looked at once: another thread may hang up at any moment.
        if (connection := self._socket) is None:
            return False
        poll = select.poll()
        try:
            poll.register(connection, select.POLLIN)
        except ValueError:
            raise CellLost("the cell is closed") from None
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def _receive(self) -> None:
        """Take in what is there to read."""
        if self._socket is None:
            raise CellLost("the cell is closed")
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as e:
            raise CellLost(f"the stream to the container broke: {e}") from e
        if not data:
            said = self._demux.stderr.decode(errors="replace")[-500:]
            raise CellLost(f"the container ended{': ' + said if said else ''}")
        try:
            self._frames.extend(self._demux.feed(data))
        except ProtocolError as e:
            raise CellLost(f"the runner broke the protocol: {e}") from e

    def next(self, timeout_s: float) -> tuple[Kind, bytes] | None:
        """The next frame; None when none came in time.

        Raises:
            CellLost: the stream ended, or what came is no frame.
        """
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            if not self._readable(deadline - time.monotonic()):
                return None
            self._receive()
        return self._frames.popleft()

    def send(self, frame: bytes) -> None:
        """Send a frame.

        Raises:
            CellLost: the stream broke, or the runner does not read.
        """
        rest = memoryview(frame)
        deadline = time.monotonic() + SEND_S
        while rest:
            if self._socket is None:
                raise CellLost("the cell is closed")
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._socket, select.POLLOUT)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise CellLost("the runner does not read") from None
            except OSError as e:
                raise CellLost(f"the stream to the container broke: {e}") from e
