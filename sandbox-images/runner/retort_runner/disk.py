"""Whether the guest has used up what it may write, looked at when none of its processes is left."""

from __future__ import annotations

import os

from retort_runner.guest import WORK
from retort_runner.privileges import AsGuest

#: The folders with a size and a number of files of their own that count as the program's disk.
_PLACES = (WORK, "/tmp")

#: Entries of the work folder that are looked at for a file of the largest size.
_LOOKED_AT = 256


def full(uid: int) -> bool:
    """Whether no byte or no file more fits in a folder, or a file is as large as a file may be."""
    for place in _PLACES:
        try:
            room = os.statvfs(place)
        except OSError:
            continue
        if room.f_blocks and room.f_bavail == 0:
            return True
        if room.f_files and room.f_favail == 0:
            return True
    return _largest(uid)


def _largest(uid: int) -> bool:
    """A write past the largest size fails with EFBIG, and leaves a file of exactly that size."""
    import resource  # here only: a program that ends well does not pay for it

    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if most == resource.RLIM_INFINITY:
        return False
    try:
        with AsGuest(uid), os.scandir(WORK) as entries:
            for _, entry in zip(range(_LOOKED_AT), entries, strict=False):
                if entry.stat(follow_symlinks=False).st_size >= most:
                    return True
    except OSError:  # the guest may have closed its folder to itself
        return False
    return False
