"""Processes forked ahead, which wait for a program with everything else done.

They stay root, out of the guest's reach, until their program comes. What a start costs is mostly the kernel
copying memory that a fork shares, page by page as it is touched; so this path calls C functions where it can
and avoids Python ones, each of which would touch pages of its own.
"""

from __future__ import annotations

import _socket as socket
import marshal
import os
import posix
from struct import pack, unpack

from retort_runner import guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_MESSAGE = 1 << 16
_INLINE = b"i"
_BY_FILE = b"f"
_READY = b"r"
_DESCRIPTORS = socket.CMSG_LEN(5 * 4)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel that keeps messages whole."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def memory_file(name: str, content: bytes) -> int:
    """A descriptor of an anonymous file that reads from its start."""
    fd = os.memfd_create(name)
    with os.fdopen(os.dup(fd), "wb") as writer:
        writer.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def send_with(channel: socket.socket, message: bytes, descriptors: list[int]) -> None:
    """Send a message with descriptors."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, pack(f"{len(descriptors)}i", *descriptors))
    channel.sendmsg([message], [rights])


def receive_with(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and its descriptors; an empty one when the other end is closed."""
    message, ancillary, _, _ = channel.recvmsg(_MESSAGE, _DESCRIPTORS)
    if not ancillary:
        return message, []
    data = ancillary[0][2]
    return message, list(unpack(f"{len(data) // 4}i", data))


def wait(channel: socket.socket, rehearsal: str, uid: int) -> NoReturn:
    """In the forked process: get ready, wait for a program, run it. Ends when the channel does."""
    try:
        guest.prepare(rehearsal)
        channel.send(_READY)
        message, stdio = receive_with(channel)
        if not message:
            posix._exit(0)
        if message[:1] == _BY_FILE:
            with os.fdopen(stdio.pop(), "rb") as file:
                message = file.read()
        job, code = marshal.loads(message[1:])
    except BaseException as error:
        posix.write(2, f"parked: {type(error).__name__}: {error}\n".encode())
        posix._exit(125)
    if "argv" in job:
        guest.execute(uid, job, code, stdio)
    guest.run(uid, job, code, stdio)


class Parked:
    """The runner's hold on a parked process."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._ready = False

    def wait_ready(self) -> None:
        """Wait until nothing is left to prepare, or the process is gone."""
        if not self._ready:
            self._ready = True
            self._channel.recv(1)

    def start(self, job: dict[str, Any], code: bytes, stdio: tuple[int, ...]) -> None:
        """Hand over a program and its stdio. Works once; a process that is gone is told of elsewhere.

        `job` is for `guest.run`, or with `argv` for `guest.execute`.
        """
        message = _INLINE + marshal.dumps((job, code))
        descriptors = list(stdio)
        by_file = len(message) > _MESSAGE
        if by_file:
            descriptors.append(memory_file("program", message))
            message = _BY_FILE
        try:
            self.wait_ready()  # a channel that is closed with something unread in it loses what was sent, too
            send_with(self._channel, message, descriptors)
        except OSError:
            return
        finally:
            self._channel.close()
            if by_file:
                os.close(descriptors[-1])

    def end(self) -> None:
        """Let the process go unused."""
        self._channel.close()
