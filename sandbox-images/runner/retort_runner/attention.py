"""Short turns on a processor for the runner, so that it hears at once of what it waits for."""

from __future__ import annotations

import ctypes
import os
from struct import pack

_SYSCALL = {"x86_64": 314, "aarch64": 274}  # sched_setattr, which the C library does not know everywhere
_RESET_ON_FORK = 1
_TURN_NS = 100_000  # the shortest that there is


def pay() -> None:
    """Ask the kernel for short turns; who has them is let in sooner.

    Without effect before Linux 6.12, and in gVisor.

    A write into a pipe wakes the reader on the writer's own processor, as if the writer were about to wait. A
    program that goes on to end instead keeps the runner waiting there until the kernel has taken it down, a
    millisecond, with another processor idle. What is forked from here has turns of the usual length.
    """
    number = _SYSCALL.get(os.uname().machine)
    if number is not None:
        attributes = pack("=IIQiIQQQ", 48, os.SCHED_OTHER, _RESET_ON_FORK, 0, 0, _TURN_NS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)
