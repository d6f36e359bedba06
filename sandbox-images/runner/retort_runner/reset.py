"""Making a used cell as good as new for the same caller, and proving it.

Everything a guest can write to is wiped with the guest's own rights, then looked at again. What cannot be
put back is reported, and the host destroys the cell.
"""

from __future__ import annotations

import os
import time

from retort_runner.privileges import AsGuest, kill_guests

#: Every place that some user other than root may write to. tests/integration/test_recycle.py searches the whole
#: container for others.
WRITABLE = ("/work", "/tmp", "/dev/shm", "/dev/mqueue")

#: Seconds in which killed processes must be gone; one that hangs in the kernel costs the cell.
END_S = 3.0

_WORK = "/work"
_SEED = "/opt/retort/seed"
_SEEDED = "/tmp/.{}"


def seed(uid: int) -> None:
    """Lay out the caches that came with the image: the files `seed/NAME/*` become the guest's `/tmp/.NAME/*`.

    Only for programs that mention the packages which look there, and have to import them themselves.
    """
    if not os.path.isdir(_SEED):
        return
    with AsGuest(uid):
        for name in os.listdir(_SEED):
            folder = _SEEDED.format(name)
            os.makedirs(folder, exist_ok=True)
            for file in os.listdir(f"{_SEED}/{name}"):
                with open(f"{_SEED}/{name}/{file}", "rb") as source, open(f"{folder}/{file}", "wb") as copy:
                    copy.write(source.read())


def _wipe(folder: str) -> None:
    """Remove everything in a folder. Nobody else is alive to change it meanwhile, and no link is followed."""
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
            continue
        try:
            _wipe(entry.path)
            os.rmdir(entry.path)
        except PermissionError:
            os.chmod(entry.path, 0o700)  # the guest took its own rights away
            _wipe(entry.path)
            os.rmdir(entry.path)


def _other(ours: set[int]) -> str | None:
    """A process that is not ours and not dead."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in ours:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                if file.read().rpartition(b") ")[2][:1] not in b"ZX":
                    return name
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def _still_there(uid: int, ours: set[int]) -> str | None:
    """Wait for killed processes to die; one that does not is told of."""
    deadline = time.monotonic() + END_S
    while other := _other(ours):
        if time.monotonic() > deadline:
            return f"process {other} is still there"
        time.sleep(0.0005)
        kill_guests(uid)
    return None


def _system_v() -> str | None:
    for kind in ("shm", "sem", "msg"):
        try:
            with open(f"/proc/sysvipc/{kind}", "rb") as table:
                if len(table.readlines()) > 1:
                    return f"a System V {kind} object is left"
        except FileNotFoundError:
            continue
    return None


def reset(uid: int, ours: set[int]) -> str | None:
    """Wipe and check; None if clean, else what is left. `ours`: the processes that may stay."""
    left = _still_there(uid, ours) or _system_v()
    if left:
        return left
    try:
        with AsGuest(uid):
            os.chmod(_WORK, 0o700)  # the guest owns it and may have changed it
            for attribute in os.listxattr(_WORK):
                os.removexattr(_WORK, attribute)
            places = [folder for folder in WRITABLE if os.path.isdir(folder)]
            for folder in places:
                _wipe(folder)
            os.utime(_WORK)
            left = next((folder for folder in places if os.listdir(folder)), None)
            attributes = os.listxattr(_WORK)
    except (OSError, RecursionError) as e:
        return f"wiping failed: {type(e).__name__}: {e}"[:200]
    if left or attributes:
        return f"{left or _WORK} is not as it was"
    return None
