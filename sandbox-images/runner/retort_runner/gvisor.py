"""Counters where there is no cgroup to read: gVisor's own /proc, for the whole sandbox.

Its kernel runs nothing but this container, so what it says of itself is what a cgroup would say. It tells of
no process that the host killed for memory: then the host's limit ends the sandbox as a whole, which the engine
knows.
"""

from __future__ import annotations

import os

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def memory() -> int | None:
    """Bytes in use."""
    try:
        with open("/proc/meminfo", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        return (int(lines[b"MemTotal"].split()[0]) - int(lines[b"MemFree"].split()[0])) * 1024
    except (OSError, KeyError, ValueError):
        return None


def cpu_s(uid: int) -> float:
    """CPU seconds of the guest's processes that live, and of what they waited for."""
    ticks = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.stat(f"/proc/{name}").st_uid != uid:
                continue
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
        except OSError:
            continue
        ticks += sum(int(fields[at]) for at in (11, 12, 13, 14))
    return ticks * _TICK_S
