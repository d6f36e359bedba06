"""Processes forked ahead, which wait for a program with everything else done, their stdio included.

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
from retort_runner.privileges import AsGuest

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


def write_all(fd: int, content: bytes) -> None:
    """Write the whole of it."""
    while content:
        content = content[posix.write(fd, content) :]


def pipe(uid: int) -> tuple[int, int]:
    """A pipe whose ends the guest may also open by their names."""
    ends = os.pipe()
    try:
        os.fchmod(ends[1], 0o666)
    except PermissionError:  # gVisor, where they are whose who makes them
        for fd in ends:
            os.close(fd)
        with AsGuest(uid):
            ends = os.pipe()
    return ends


def _output_pipe(uid: int) -> tuple[int, int]:
    """A pipe to read from without waiting; the guest knows the other end as /dev/stdout, too."""
    ours, theirs = pipe(uid)
    os.set_blocking(ours, False)
    return ours, theirs


def _memory_file(name: str) -> tuple[int, int]:
    """An anonymous file: where it is written, and where it is read from its start."""
    writer = os.memfd_create(name)
    return writer, os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC)


def send_with(channel: socket.socket, message: bytes, descriptors: list[int]) -> None:
    """Send a message with descriptors, if there are any."""
    if not descriptors:
        channel.send(message)
        return
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, pack(f"{len(descriptors)}i", *descriptors))
    channel.sendmsg([message], [rights])


def receive_with(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and its descriptors; an empty one when the other end is closed."""
    message, ancillary, _, _ = channel.recvmsg(_MESSAGE, _DESCRIPTORS)
    if not ancillary:
        return message, []
    data = ancillary[0][2]
    return message, list(unpack(f"{len(data) // 4}i", data))


def wait(channel: socket.socket, stdio: list[int], rehearsal: str, uid: int) -> NoReturn:
    """In the forked process: get ready, wait for a program, run it. Ends when the channel does."""
    try:
        guest.prepare(rehearsal, stdio)
        channel.send(_READY)
        message, more = receive_with(channel)
        if not message:
            posix._exit(0)
        if message[:1] == _BY_FILE:
            with os.fdopen(more.pop(), "rb") as file:
                message = file.read()
        job, code = marshal.loads(message[1:])
        for source in more:
            posix.dup2(source, 3)
        posix.closerange(3 + len(more), 1 << 16)
    except BaseException as error:
        posix.write(2, f"parked: {type(error).__name__}: {error}\n".encode())
        posix._exit(125)
    if "argv" in job:
        guest.execute(uid, job, code)
    guest.run(uid, job, code)


class Stdio:
    """Stdin, stdout and stderr of a program to come: the runner's ends, and the program's until it has them."""

    def __init__(self, uid: int) -> None:
        self.stdin, stdin = _memory_file("stdin")
        self.out, out = _output_pipe(uid)
        self.err, err = _output_pipe(uid)
        self.theirs = [stdin, out, err]

    def given(self) -> None:
        """The program's process has its ends; give up ours of them."""
        for fd in self.theirs:
            posix.close(fd)

    def end(self) -> None:
        """Give up our own ends."""
        for fd in (self.stdin, self.out, self.err):
            posix.close(fd)


class Parked:
    """The runner's hold on a parked process."""

    def __init__(self, pid: int, channel: socket.socket, stdio: Stdio) -> None:
        self.pid = pid
        self.stdio = stdio
        self._channel = channel
        self._ready = False

    def wait_ready(self) -> None:
        """Wait until nothing is left to prepare, or the process is gone."""
        if not self._ready:
            self._ready = True
            self._channel.recv(1)

    def start(self, job: dict[str, Any], code: bytes, third: int | None = None) -> None:
        """Hand over a program. Works once; a process that is gone is told of elsewhere.

        `job` is for `guest.run`, or with `argv` for `guest.execute`. `third` becomes descriptor 3.
        """
        message = _INLINE + marshal.dumps((job, code))
        descriptors = [] if third is None else [third]
        by_file = len(message) > _MESSAGE
        if by_file:
            writer, reader = _memory_file("program")
            write_all(writer, message)
            posix.close(writer)
            descriptors.append(reader)
            message = _BY_FILE
        try:
            self.wait_ready()  # a channel that is closed with something unread in it loses what was sent, too
            send_with(self._channel, message, descriptors)
        except OSError:
            return
        finally:
            self._channel.close()
            if by_file:
                posix.close(descriptors[-1])

    def end(self) -> None:
        """Let the process go unused."""
        self._channel.close()
        self.stdio.end()
