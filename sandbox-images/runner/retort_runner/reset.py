"""Making a used cell as good as new for the same caller, and proving it.

Everything a guest can write to is wiped with the guest's own rights, then looked at again. What cannot be
put back is reported, and the host destroys the cell.
"""

import os
import shutil
import time
from contextlib import suppress

from retort_runner.privileges import as_guest, kill_guests

#: Every place that some user other than root may write to. tests/integration/test_recycle.py searches the whole
#: container for others.
WRITABLE = ("/work", "/tmp", "/dev/shm", "/dev/mqueue")

#: Seconds in which killed processes must be gone; one that hangs in the kernel costs the cell.
_END_S = 3.0

_WORK = "/work"
_SEED = "/opt/retort/seed"
_SEEDED = "/tmp/.{}"


def seed(uid: int) -> None:
    """Lay out the caches that came with the image: `seed/NAME` becomes `/tmp/.NAME`, the guest's own.

    Only for programs that mention the packages which look there, and have to import them themselves.
    """
    if not os.path.isdir(_SEED):
        return
    with as_guest(uid), os.scandir(_SEED) as entries:
        for entry in entries:
            shutil.copytree(entry.path, _SEEDED.format(entry.name), dirs_exist_ok=True)


def _unlock(path: str) -> None:
    """Give a guest's folders back the rights that wiping needs."""
    os.chmod(path, 0o700)
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _unlock(entry.path)


def _wipe(folder: str) -> None:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            try:
                shutil.rmtree(path)
            except PermissionError:
                _unlock(path)
                shutil.rmtree(path)
        else:
            os.unlink(path)


def _other(ours: set[int]) -> str | None:
    """A process that is not ours and not dead."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in ours:
            continue
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat", "rb") as file:
            if file.read().rpartition(b") ")[2][:1] not in b"ZX":
                return name
    return None


def _still_there(uid: int, ours: set[int]) -> str | None:
    """Wait for killed processes to die; one that does not is told of."""
    deadline = time.monotonic() + _END_S
    while other := _other(ours):
        if time.monotonic() > deadline:
            return f"process {other} is still there"
        time.sleep(0.0005)
        kill_guests(uid)
    return None


def _system_v() -> str | None:
    for kind in ("shm", "sem", "msg"):
        with suppress(FileNotFoundError), open(f"/proc/sysvipc/{kind}", "rb") as table:
            if len(table.readlines()) > 1:
                return f"a System V {kind} object is left"
    return None


def reset(uid: int, ours: set[int]) -> str | None:
    """Wipe and check; None if clean, else what is left. `ours`: the processes that may stay."""
    left = _still_there(uid, ours) or _system_v()
    if left:
        return left
    try:
        with as_guest(uid):
            os.chmod(_WORK, 0o700)  # the guest owns it and may have changed it
            for attribute in os.listxattr(_WORK):
                os.removexattr(_WORK, attribute)
            for folder in WRITABLE:
                _wipe(folder)
            os.utime(_WORK)
            left = next((folder for folder in WRITABLE if os.path.isdir(folder) and os.listdir(folder)), None)
            attributes = os.listxattr(_WORK)
    except (OSError, RecursionError) as e:
        return f"wiping failed: {type(e).__name__}: {e}"[:200]
    if left or attributes:
        return f"{left or _WORK} is not as it was"
    return None
