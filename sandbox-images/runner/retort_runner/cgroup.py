"""Counters of our own cgroup, version 1 or 2, as the kernel shows them inside the container.

Files stay open, so that a reading costs a few microseconds. A counter that this kernel lacks reads as None
or 0. gVisor shows none of them, but tells of itself in /proc; see gvisor.py.
"""

from __future__ import annotations

import os

from retort_runner import gvisor

_ROOT = "/sys/fs/cgroup"
_MB = 1 << 20

#: Where the container says nothing of its memory (gVisor), interpreters that ask are told this (MB).
_UNKNOWN_MB = 512


def _open(*names: str) -> int | None:
    for name in names:
        try:
            return os.open(f"{_ROOT}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    return None


def _number(fd: int | None, key: bytes = b"") -> int | None:
    """The number in the file, or behind `key` in it."""
    if fd is None:
        return None
    try:
        text = os.pread(fd, 16384, 0)
    except OSError:
        return None
    if not key:
        return int(text) if text.strip().isdigit() else None
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if name == key:
            return int(value)
    return None


class Sample:
    """A reading: bytes in use, highest bytes in use ever, processes killed for memory, CPU seconds."""

    __slots__ = ("cpu_s", "memory", "oom_kills", "peak")

    def __init__(self, memory: int | None, peak: int | None, oom_kills: int, cpu_s: float | None) -> None:
        self.memory = memory
        self.peak = peak
        self.oom_kills = oom_kills
        self.cpu_s = cpu_s


class Counters:
    """The counters of this container."""

    def __init__(self) -> None:
        self._memory = _open("memory.current", "memory/memory.usage_in_bytes")
        self._peak = _open("memory.peak", "memory/memory.max_usage_in_bytes")
        self._stat = _open("memory.stat", "memory/memory.stat")
        self._kernel = _open("memory/memory.kmem.usage_in_bytes")
        self._limit = _open("memory.max", "memory/memory.limit_in_bytes")
        self._events = _open("memory.events", "memory/memory.oom_control")
        self._cpu_v2 = _open("cpu.stat")
        self._cpu_v1 = _open("cpuacct/cpuacct.usage", "cpu,cpuacct/cpuacct.usage")
        self.missing = self._memory is None and self._cpu_v2 is None and self._cpu_v1 is None

    def sample(self) -> Sample:
        """Read all of them."""
        return Sample(
            memory=gvisor.memory() if self.missing else _number(self._memory),
            peak=_number(self._peak),
            oom_kills=_number(self._events, b"oom_kill") or 0,
            cpu_s=self.cpu_s(),
        )

    def cpu_s(self) -> float | None:
        """CPU seconds of everything in the container, ever."""
        if self._cpu_v2 is not None:
            micro = _number(self._cpu_v2, b"usage_usec")
            return None if micro is None else micro / 1e6
        nano = _number(self._cpu_v1)
        return None if nano is None else nano / 1e9

    def limit_mb(self) -> int:
        """The container's memory limit now, which a job may move."""
        limit = _number(self._limit)
        return limit // _MB if limit is not None and limit < 1 << 50 else _UNKNOWN_MB

    def held(self) -> int | None:
        """Bytes that cannot be reclaimed: anonymous and kernel memory, without the page cache."""
        anon = _number(self._stat, b"anon")
        if anon is not None:
            return anon + (_number(self._stat, b"kernel") or 0)
        if self.missing:
            return gvisor.memory()
        rss = _number(self._stat, b"total_rss")
        return None if rss is None else rss + (_number(self._kernel) or 0)
