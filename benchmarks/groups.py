"""Where CPU time goes: by process group, for a stretch of time."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cgroups, machine
from worker.sandbox.engine import Engine, EngineError
from worker.sandbox.spec import LABEL_INSTANCE

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
REST = "rest"


@dataclass(frozen=True, slots=True)
class _Process:
    name: str
    parent: int
    own_s: float
    waited_s: float  # of children that ended


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            head, _, tail = text.rpartition(")")
            fields = tail.split()
            ticks = [int(field) for field in fields[11:15]]
            found[int(entry)] = _Process(
                name=head.partition("(")[2],
                parent=int(fields[1]),
                own_s=(ticks[0] + ticks[1]) * _TICK_S,
                waited_s=(ticks[2] + ticks[3]) * _TICK_S,
            )
    return found


class Groups:
    """CPU seconds between two marks: of the service's processes, the engine, the containers, all others."""

    def __init__(self, engine: Engine, instance: str, service: Mapping[str, int]) -> None:
        self._engine = engine
        self._instance = instance
        self._service = dict(service)
        self._containers = self._container_files()
        self._marks: list[dict[str, float]] = []

    def _container_files(self) -> set[Path]:
        files = set()
        for container in self._engine.labelled(LABEL_INSTANCE, self._instance):
            try:
                pid = self._engine.inspect(container["Id"])["State"]["Pid"]
            except EngineError:
                continue
            file = cgroups.cpu_file(pid) if pid else None
            if file is not None:
                everything = cgroups.of_all_containers(file)
                if everything is not None:
                    return {everything}
                files.add(file)
        return files

    def mark(self) -> None:
        """Take a reading; of all readings the first and the last count."""
        processes = _processes()
        children: dict[int, list[int]] = {}
        for pid, process in processes.items():
            children.setdefault(process.parent, []).append(pid)

        def tree(pid: int) -> float:
            process = processes.get(pid)
            if process is None:
                return 0.0
            below = sum(tree(child) for child in children.get(pid, []))
            return process.own_s + process.waited_s + below

        def named(name: str) -> float:
            return sum(process.own_s for process in processes.values() if process.name == name)

        reading = {name: tree(pid) for name, pid in self._service.items()}
        reading["dockerd"] = named("dockerd")
        reading["containerd, shims"] = named("containerd") + named("containerd-shim")
        reading["containers"] = sum(cgroups.read(file) or 0.0 for file in self._containers)
        own = os.times()
        reading["benchmark"] = own.user + own.system
        reading[REST] = machine.busy_s() - sum(reading.values())
        self._marks.append(reading)

    def spent(self) -> dict[str, float]:
        """CPU seconds between the first and the last mark. `rest`: the kernel, and short programs like runc."""
        if len(self._marks) < 2:
            return {}
        first, last = self._marks[0], self._marks[-1]
        return {name: max(0.0, last[name] - first[name]) for name in last}
