"""Placing a job's files in the work folder, before its program begins, and knowing them again after its end."""

from __future__ import annotations

import os
from struct import unpack_from

from retort_runner.guest import WORK
from retort_runner.privileges import AsGuest

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Inputs:
    """The files of one job. Written with the guest's rights, so that they are the guest's and count as its own.

    `placed` is what tells an input from one that the program changed: name -> inode, size, time of change. The
    time is set to a whole second that has passed, so that any later write shows, however soon it comes.
    """

    def __init__(self, uid: int) -> None:
        self.placed: dict[bytes, tuple[int, int, int]] = {}
        self._uid = uid
        self._fd = -1
        self._name = b""

    def take(self, payload: bytes) -> None:
        """One FILE frame: 4 bytes length of a name, the name, content. Without a name it goes on with the last.

        Raises:
            OSError: it could not be written; the host sees to it that there is room.
        """
        (length,) = unpack_from(">I", payload)
        if length:
            self.end()
            self._name = payload[4 : 4 + length]
            name = self._name.decode()
            path = f"{WORK}/{name}"
            with AsGuest(self._uid):
                if "/" in name:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                self._fd = os.open(path, _FLAGS, 0o644)
        rest = memoryview(payload)[4 + length :]
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def add_made(self) -> None:
        """The compiler ended: what it made of the program is none of the files that the program leaves."""
        with AsGuest(self._uid), os.scandir(WORK) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                self.placed.setdefault(
                    os.fsencode(entry.name), (status.st_ino, status.st_size, status.st_mtime_ns)
                )

    def end(self) -> None:
        """The last file is complete."""
        if self._fd < 0:
            return
        status = os.fstat(self._fd)
        past = (status.st_mtime_ns // 1_000_000_000 - 1) * 1_000_000_000
        with AsGuest(self._uid):
            os.utime(self._fd, ns=(past, past))
        self.placed[self._name] = (status.st_ino, status.st_size, past)
        os.close(self._fd)
        self._fd = -1
