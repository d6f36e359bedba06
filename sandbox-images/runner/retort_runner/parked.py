"""Processes forked ahead, which wait for a program with everything else done.

They stay root, out of the guest's reach, until their program comes.
"""

import json
import os
import socket
from contextlib import suppress
from typing import Any, NoReturn

from retort_runner import guest

_MESSAGE = 1 << 16
_INLINE = b"i"
_BY_FILE = b"f"


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


def wait(channel: socket.socket, uid: int, rlimits: dict[str, int]) -> NoReturn:
    """In the forked process: get ready, wait for a program, run it. Ends when the channel does."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        end = os.dup2(channel.detach(), 3, inheritable=False) if channel.fileno() != 3 else channel.detach()
        for fd in range(3):
            os.dup2(null, fd)
        os.closerange(4, 1 << 16)
        guest.prepare(rlimits)
        message, stdio, _, _ = socket.recv_fds(socket.socket(fileno=end), _MESSAGE, 4)
        if not message:
            os._exit(0)
        if message[:1] == _BY_FILE:
            with os.fdopen(stdio.pop(), "rb") as file:
                message = file.read()
        else:
            message = message[1:]
        head, code = message.split(b"\0", 1)
        job = json.loads(head)
    except BaseException as error:
        with suppress(OSError):
            os.write(2, f"parked: {type(error).__name__}: {error}\n".encode())
        os._exit(125)
    guest.run(uid, job, code, stdio)


class Parked:
    """The runner's hold on a parked process."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel

    @classmethod
    def fork(cls, uid: int, rlimits: dict[str, int]) -> "Parked":
        """Fork one off this process."""
        ours, theirs = pair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            wait(theirs, uid, rlimits)
        theirs.close()
        return cls(pid, ours)

    def start(self, job: dict[str, Any], code: bytes, stdio: tuple[int, int, int]) -> bool:
        """Hand over a program and its stdio; False if the process is gone. Works once."""
        message = json.dumps(job).encode() + b"\0" + code
        descriptors = list(stdio)
        by_file = len(message) >= _MESSAGE
        if by_file:
            descriptors.append(memory_file("program", message))
        try:
            socket.send_fds(self._channel, [_BY_FILE if by_file else _INLINE + message], descriptors)
        except OSError:
            return False
        finally:
            self._channel.close()
            if by_file:
                os.close(descriptors[-1])
        return True

    def end(self) -> None:
        """Let the process go unused."""
        self._channel.close()
