"""Collecting what a program left in the work folder, after every process of the guest is dead.

Everything is looked at and read with the guest's own rights, by descriptors of folders and never through a
link, so a name leads nowhere that the program could not have read itself. What is not a regular file is told
and not opened. Names are bytes and stay bytes: the host decides what of them can be shown.
"""

from __future__ import annotations

import os
import stat
import time
from struct import pack, unpack

from retort_runner import wire
from retort_runner.guest import WORK
from retort_runner.privileges import AsGuest

_CHUNK = 1 << 16

#: Bytes that wait to be sent together.
_HOLD = 1 << 16

#: Entries of folders looked at, for each artifact that may be kept; and bytes of names of what is left out.
_LOOKS = 100
_TOLD = 1 << 15

#: Folders that hold what programs can make again.
_CACHES = (b"__pycache__", b".cache")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

# Why something is left out; domain.files.LeftOut has the same in words.
SYMLINK = b"l"
SPECIAL = b"s"
CACHE = b"c"
TOO_LARGE = b"z"
TOO_MUCH = b"b"
TOO_MANY = b"n"
TOO_DEEP = b"d"
UNREADABLE = b"u"
TIME = b"t"

#: A COLLECTED frame's payload where there is nothing to tell.
NOTHING = bytes(4)


class Wanted:
    """What the host wants of a job: number of files, bytes of each and of all, levels of folders, seconds."""

    def __init__(self, payload: bytes) -> None:
        self.files, self.each, self.total, self.depth, milliseconds = unpack(">IQQII", payload)
        self.seconds = milliseconds / 1000


class _Late(Exception):
    """The time for collecting is over."""


class Collector:
    """Collects once. `frames` are still to be sent, ahead of what is found."""

    def __init__(
        self,
        wanted: Wanted,
        program: bytes,
        placed: dict[bytes, tuple[int, int, int]],
        frames: list[tuple[bytes, bytes]],
    ) -> None:
        self._wanted = wanted
        self._program = program
        self._placed = placed
        self._frames = frames
        self._held = 0
        self._until = time.monotonic() + wanted.seconds
        self._looks = _LOOKS * wanted.files
        self._files = wanted.files
        self._room = wanted.total
        self._left: list[bytes] = []
        self._told = 0
        self._more = 0

    def collect(self, uid: int) -> None:
        """Send the frames, each file, and last what was left out.

        Raises:
            BrokenPipeError: the host hung up.
        """
        with AsGuest(uid):
            try:
                self._folder(os.open(WORK, _FOLDER), b"", 1)
            except OSError:
                self._leave(UNREADABLE, b".")
            except _Late:
                self._leave(TIME, b".")
        self._send(wire.COLLECTED, pack(">I", self._more) + b"".join(self._left))
        self._flush()

    def _folder(self, fd: int, path: bytes, level: int) -> None:
        """Collect a folder's files, then those of the folders in it, in the order of their names."""
        folders = []
        try:
            for name in self._names(fd):
                if time.monotonic() > self._until:
                    raise _Late
                whole = path + os.fsencode(name)
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    self._leave(UNREADABLE, whole)
                    continue
                if stat.S_ISDIR(status.st_mode):
                    folders.append(name)
                elif whole != self._program:
                    self._file(fd, name, whole, status)
            for name in folders:
                self._inner(fd, name, path + os.fsencode(name), level)
        finally:
            os.close(fd)

    def _names(self, fd: int) -> list[str]:
        names = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if self._looks > 0:
                    self._looks -= 1
                    names.append(entry.name)
                else:
                    self._more += 1
        names.sort()
        return names

    def _inner(self, fd: int, name: str, whole: bytes, level: int) -> None:
        if os.fsencode(name) in _CACHES:
            self._leave(CACHE, whole)
        elif level >= self._wanted.depth:
            self._leave(TOO_DEEP, whole)
        else:
            try:
                inner = os.open(name, _FOLDER, dir_fd=fd)
            except OSError:
                self._leave(UNREADABLE, whole)
            else:
                self._folder(inner, whole + b"/", level + 1)

    def _file(self, folder: int, name: str, whole: bytes, status: os.stat_result) -> None:
        size = status.st_size
        if self._placed.get(whole) == (status.st_ino, size, status.st_mtime_ns):
            return  # an input, as it was given
        if not stat.S_ISREG(status.st_mode):
            self._leave(SYMLINK if stat.S_ISLNK(status.st_mode) else SPECIAL, whole)
        elif self._files == 0:
            self._leave(TOO_MANY, whole)
        elif size > self._wanted.each:
            self._leave(TOO_LARGE, whole)
        elif size > self._room:
            self._leave(TOO_MUCH, whole)
        else:
            try:
                fd = os.open(name, _FILE, dir_fd=folder)
            except OSError:
                self._leave(UNREADABLE, whole)
                return
            self._files -= 1
            self._room -= size
            try:
                self._read(fd, whole, size)
            finally:
                os.close(fd)

    def _read(self, fd: int, whole: bytes, size: int) -> None:
        head = pack(">IQ", len(whole), size) + whole
        rest = size
        while True:
            try:
                chunk = os.read(fd, min(_CHUNK, rest)) if rest else b""
            except OSError:
                self._leave(UNREADABLE, whole)
                return
            self._send(wire.ARTIFACT, head + chunk)
            rest -= len(chunk)
            if not rest:
                return
            if not chunk:
                self._leave(UNREADABLE, whole)
                return
            if time.monotonic() > self._until:
                self._leave(TIME, whole)
                raise _Late
            head = pack(">I", 0)

    def _leave(self, why: bytes, whole: bytes) -> None:
        if self._told + len(whole) > _TOLD:
            self._more += 1
            return
        self._told += len(whole) + 3
        self._left.append(why + pack(">H", len(whole)) + whole)

    def _send(self, kind: bytes, payload: bytes) -> None:
        self._frames.append((kind, payload))
        self._held += len(payload)
        if self._held > _HOLD:
            self._flush()

    def _flush(self) -> None:
        wire.send_all(self._frames)
        self._frames, self._held = [], 0
