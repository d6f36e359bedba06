"""CPU time of containers, read from the host; cgroup version 1 and 2."""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def cpu_file(pid: int) -> Path | None:
    """The file that counts the CPU time of the cgroup of a process; None if it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            folders, name = [_ROOT / controllers, _ROOT / "cpuacct"], "cpuacct.usage"
        elif not controllers:
            folders, name = [_ROOT], "cpu.stat"
        else:
            continue
        for folder in folders:
            file = folder / path.lstrip("/") / name
            if read(file) is not None:
                return file
    return None


def read(file: Path | None) -> float | None:
    """CPU seconds in such a file; None if it is gone or unreadable."""
    if file is None:
        return None
    try:
        content = file.read_text(encoding="ascii")
    except OSError:
        return None
    if file.name == "cpuacct.usage":
        return int(content) / 1e9
    for line in content.splitlines():
        key, _, value = line.partition(" ")
        if key == "usage_usec":
            return int(value) / 1e6
    return None


def of_all_containers(file: Path) -> Path | None:
    """The file that counts all containers, ended ones too, where the engine has a cgroup for them alone."""
    above = file.parent.parent
    return above / file.name if above.name == "docker" else None
