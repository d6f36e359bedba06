"""Becoming the guest, and acting as the guest for a moment."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import errno
import os
from struct import pack, unpack

_PR_SET_DUMPABLE = 4
_CAP_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


def drop_inheritable() -> None:
    """Empty our inheritable capabilities, which a change of user would leave as they are."""
    header = ctypes.create_string_buffer(pack("=Ii", _CAP_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    if _libc.capget(header, data) != 0:
        return
    words = list(unpack("=6I", data.raw))
    words[2] = words[5] = 0  # effective, permitted, inheritable; low then high words
    _libc.capset(header, pack("=6I", *words))


def prepare_guest() -> None:
    """What about becoming the guest does not yet give up being root. Resource limits are the container's."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"1000")  # of all processes here the guest's go first when memory ends
        os.close(fd)
    except OSError:
        pass  # gVisor has no such file
    os.setsid()
    _become(-1)  # changes nothing; see guest.prepare


def become_guest(uid: int) -> None:
    """Become the guest, for good."""
    _become(uid)


def _become(uid: int) -> None:
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # The change of user made /proc/self root's; without this the guest could not open /dev/stdout. Its memory
    # is a copy of ours, which holds no secret.
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


class AsGuest:
    """A block that acts with the guest's rights, and can come back: the saved user stays root.

    The guest cannot use the moment: to signal or trace us it would need our saved user too, and PID 1 takes
    no signal from inside that it has no handler for.
    """

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def __enter__(self) -> None:
        os.setresgid(self._uid, self._uid, 0)
        os.setresuid(self._uid, self._uid, 0)

    def __exit__(self, *_: object) -> None:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


def kill_guests(uid: int) -> None:
    """Kill every process of the guest's user in one atomic step; needs no free process id.

    As root `kill(-1)` would hit the zygote too; with the guest's user it reaches the guest's alone. The kernel
    walks all processes under one lock, so a fork bomb cannot outrun it.
    """
    with AsGuest(uid):
        try:
            os.kill(-1, _signal.SIGKILL)
        except OSError as e:
            if e.errno not in (errno.ESRCH, errno.EPERM):
                raise
