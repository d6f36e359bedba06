"""What `retort doctor` tells of sandboxes: each limit proven on this host by a program that would break it.

The trying is the worker's; it is started as a process and its JSON shown here, tier by tier.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from retort.findings import Check

#: What a person should do about each limit that does not hold.
TODO = {
    "memory": "The engine cannot bound memory here: enable the memory cgroup controller (and swap accounting).",
    "time": "Programs cannot be ended in time: see that the engine can kill containers.",
    "output": "The runner in the image is not ours: build the images again with `make images`.",
    "pids": "The engine cannot bound processes here: enable the pids cgroup controller.",
    "disk": "The engine ignores the size of tmpfs mounts: use another engine or storage setting.",
    "network": "Sandboxes have a network: see that no plugin or default of the engine attaches one.",
    "capabilities": "Programs keep capabilities: see `docker info` for a default that adds them.",
    "seccomp": "Our seccomp profile is not applied: the kernel or the engine lacks seccomp. "
    "For runsc, register the runtime with --oci-seccomp (docs/tiers.md).",
}

#: Days after which a gVisor, whose versions are dates, is worth replacing.
OLD_DAYS = 365

Module = Callable[..., tuple[int, str, str]]


def proven(run: Module, runtime: str) -> Iterator[Check]:
    """Every limit of one tier, and in one line what else was compared."""
    code, out, err = run("worker.sandbox.posture", runtime)
    try:
        found: list[dict[str, Any]] = json.loads(out)
    except ValueError:
        said = (err.strip().splitlines() or [f"exit code {code}"])[-1]
        todo = "Sandboxes cannot be trusted before this works: see the message."
        yield Check(f"sandboxes on {runtime}", False, said, todo)
        return
    settings = [entry for entry in found if not entry.get("limit")]
    wrong = [entry for entry in settings if not entry["ok"]]
    for entry in wrong:
        todo = f"Must be {entry['expected']}. The worker refuses jobs on {runtime} until it is."
        yield Check(f"{runtime}: {entry['check']}", False, str(entry["found"]), todo)
    if not wrong:
        text = f"{len(settings)} settings are as they must be, asked of the engine and from inside"
        yield Check(f"{runtime}: settings", True, text)
    for entry in found:
        if limit := entry.get("limit"):
            said = f"a program that would break it ended as: {entry['found']}"
            todo = "" if entry["ok"] else f"Must be {entry['expected']}. {TODO.get(limit, '')}"
            yield Check(f"{runtime}: {entry['check']}", entry["ok"], said, todo)


def runsc_version(now: datetime | None = None) -> Check:
    """How old the gVisor of this machine is; its engine may be on another."""
    program = shutil.which("runsc")
    if program is None:
        return Check("runsc version", None, "not on PATH", "See its version on the engine's own machine.")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    text = (done.stdout.splitlines() or ["unknown"])[0].removeprefix("runsc version ")
    if _old(text, now):
        todo = "More than a year old: prefer a newer one from gvisor.dev, which is also faster."
        return Check("runsc version", None, text, todo)
    return Check("runsc version", True, text)


def _old(version: str, now: datetime | None) -> bool:
    """Whether a version such as `release-20260302.0` is long past.

    >>> _old("0.0~20221219.0", datetime(2026, 1, 1, tzinfo=UTC)), _old("unknown", None)
    (True, False)
    """
    found = re.search(r"(20\d{6})", version)
    if found is None:
        return False
    try:
        made = datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return ((now or datetime.now(UTC)) - made).days > OLD_DAYS
