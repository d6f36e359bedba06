"""How a Python program tells its end before its process is gone.

Taking down a process's memory takes the kernel milliseconds, and only then does the parent hear of it. So a
program that came to its end leaves its exit code in a page that it shares with the runner, and closes its
output: from then on nothing of it can be heard, and the runner goes on. Nothing is trusted by that. A program
that forges it has chosen its own exit code, and is killed at once, as one that exits is gone at once.
"""

from __future__ import annotations

import posix
import time
from struct import pack, unpack_from

try:
    import mmap
    import resource

    #: Process id and exit code. Shared by all that are forked from here on; nothing that is executed has it.
    _page: mmap.mmap | bytearray = mmap.mmap(-1, mmap.PAGESIZE)
except ModuleNotFoundError:  # in images of other languages, whose programs are not forked
    _page = bytearray(8)


def clear() -> None:
    """Forget the last program's end."""
    _page[:8] = bytes(8)


def tell(code: int) -> None:
    """By the program: it ended. Not for one that had children, whose CPU time only its parent hears."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    if children.ru_utime + children.ru_stime == 0:
        _page[:8] = pack("ii", posix.getpid(), code)
        posix.closerange(1, 3)  # the program may have closed them already
        posix.sched_yield()  # to the runner, if it waits for this processor


def told(pid: int) -> int | None:
    """The exit code that this process told, not a child of it. Means something once its output is closed."""
    teller, code = unpack_from("ii", _page)
    return code & 0xFF if teller == pid else None


def usage(pid: int) -> dict[str, float] | None:
    """CPU seconds and highest resident bytes of a process that is not gone yet; None if it is."""
    try:
        cpu_s = time.clock_gettime((~pid << 3) | 2)  # the kernel's name for a process's clock
        with open(f"/proc/{pid}/status", "rb") as file:
            _, found, rest = file.read().partition(b"VmHWM:")
    except OSError:
        return None
    return {"cpu_s": cpu_s, "rss": int(rest.split(None, 1)[0]) * 1024} if found else None
