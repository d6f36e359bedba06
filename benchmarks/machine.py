"""The machine that was measured, and whether it had something else to do."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from worker.sandbox.engine import Engine

#: Share of the processors that others may use before figures are worth less.
QUIET = 0.08

#: Share of the processors' time that a hypervisor may keep back.
STOLEN = 0.01

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """CPU seconds that the whole machine has spent since it was booted, waiting not counted."""
    return _times()[0]


def stolen_s() -> float:
    """CPU seconds that the hypervisor gave to others."""
    return _times()[1]


def _times() -> tuple[float, float]:
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(n) for n in first.split()[1:9])
    return (user + nice + system + irq + softirq) * _TICK_S, steal * _TICK_S


def busy_share(seconds: float) -> float:
    """Share of all processors in use while we sleep."""
    began, before = time.monotonic(), busy_s()
    time.sleep(seconds)
    return (busy_s() - before) / (time.monotonic() - began) / (os.cpu_count() or 1)


def wait_quiet(most_s: float) -> bool:
    """Wait until hardly anything else runs; False if that did not come in time."""
    deadline = time.monotonic() + most_s
    while busy_share(0.5) > QUIET:
        if time.monotonic() > deadline:
            return False
    return True


def load_average() -> list[float]:
    """Of the last one, five and fifteen minutes."""
    return list(os.getloadavg())


def warning(facts: dict[str, Any]) -> str | None:
    """What to say about a machine that was busy before the run began."""
    load, share = facts["load_average"], facts["busy_share"]
    if share <= QUIET and load[0] <= facts["cores"]:
        return None
    return (
        f"WARNING: this machine is busy: load average {load[0]:.2f}, {share:.0%} of the processors in use by "
        "others. The figures are not worth keeping."
    )


def stolen(facts: dict[str, Any]) -> str | None:
    """What to say about a run whose processors were taken away by the hypervisor."""
    share = facts["stolen_s"] / (facts["seconds"] * facts["cores"])
    if share <= STOLEN:
        return None
    return f"WARNING: the hypervisor gave {share:.1%} of the processors' time to others during the run."


def facts(engine: Engine, root: Path) -> dict[str, Any]:
    """All that figures depend on."""
    share = busy_share(2.0)
    version, info = engine.version(), engine.info()
    parts = {part["Name"]: part["Version"] for part in version.get("Components") or []}
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": {
            "docker": version.get("Version"),
            **{name: parts.get(name) for name in ("containerd", "runc")},
        },
        "storage": info.get("Driver"),
        "cgroup": info.get("CgroupVersion"),
        "revision": revision(root),
        "load_average": load_average(),
        "busy_share": share,
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def revision(root: Path) -> str | None:
    """The commit, with a plus sign if files differ from it; None outside a checkout."""
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
