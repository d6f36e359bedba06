"""How the C library keeps memory that a worker has given up."""

import ctypes

_MMAP_THRESHOLD = -3
_ARENA_MAX = -8

#: Blocks from this size on are the kernel's again once they are freed, in bytes.
_LARGE = 128 << 10

#: Heaps that threads share; one holds the interpreter's lock whenever it allocates.
_HEAPS = 2


def keep_little() -> None:
    """Have large blocks given back at once, and all threads share few heaps. Only glibc knows both.

    Else it puts blocks of up to 32 MB into a heap for each thread, where any small thing that comes to lie
    behind one keeps it: a worker that saw a hundred hostile programs held 60 MB more than at its start.
    """
    if (option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        option(_MMAP_THRESHOLD, _LARGE)
        option(_ARENA_MAX, _HEAPS)
