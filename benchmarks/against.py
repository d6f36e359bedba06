"""`python -m benchmarks.against REVISION`: the service of this checkout against that of an earlier revision.

Both run at the same time, each with a database, a broker and sandboxes of its own, and one stands idle while
the other is asked, in turns, so that both see the same machine. Three ways are compared: the earlier revision;
ours, asked the same; and ours by a caller with every quota, each request with an idempotency key of its own.
Of the most clients it is also told which processes spent how much CPU on a job.

An earlier revision runs with the packages of this checkout. It must be one that has `retort up --detach`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import machine, table
from benchmarks.containers import Bench
from benchmarks.groups import Groups
from benchmarks.guarded import JOB, guarded
from benchmarks.load import in_turn, load, request
from benchmarks.run import RESULTS, ROOT
from benchmarks.service import Service
from benchmarks.stats import percentile
from retort import commands
from worker.sandbox.engine import Engine

EARLIER, OURS, GUARDED = "earlier", "ours", "ours, all quotas, idempotency keys"
CLIENTS = (4, 8)

Ask = tuple[Service, Callable[[], bytes]]

#: Figures, or CPU milliseconds of a job by process, each by the service's name.
Figures = dict[str, dict[str, float]]


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The files of that revision in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="retort-against-") as folder:
        house = Path(folder, "house")
        house.mkdir()
        archive = subprocess.run(
            ["git", "archive", "--format=tar", revision], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(house)], input=archive, check=True)
        yield house


class Spent:
    """CPU of one service's jobs, in several stretches."""

    def __init__(self, engine: Engine, service: Service) -> None:
        self._make = partial(Groups, engine, service.instance, service.pids)
        self._seconds: Counter[str] = Counter()
        self._jobs = 0

    def load(self, ask: Ask, clients: int, seconds: float) -> float:
        """Jobs a second, their CPU counted."""
        service, make = ask
        groups = self._make()
        loaded = load(service.address, make, clients, seconds, warm_s=1.0, mark=groups.mark)
        self._seconds.update(groups.spent())
        self._jobs += len(loaded.ms)
        return loaded.per_s

    @property
    def ms_per_job(self) -> dict[str, float]:
        """By process."""
        return {name: 1e3 * seconds / self._jobs for name, seconds in self._seconds.items()}


def measure(
    engine: Engine, asks: Mapping[str, Ask], rounds: int, requests: int, seconds: float
) -> tuple[Figures, Figures]:
    """Milliseconds of one client and jobs a second of several, over all rounds; CPU of the most clients."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    rates: dict[str, dict[int, list[float]]] = {name: {count: [] for count in CLIENTS} for name in asks}
    spent = {name: Spent(engine, service) for name, (service, _) in asks.items()}
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}")
        for name in list(asks)[:: 1 if number % 2 == 0 else -1]:
            service, ask = asks[name]
            in_turn(service.address, (ask() for _ in range(10)))
            times[name] += [answer.ms for answer in in_turn(service.address, (ask() for _ in range(requests)))]
            for count in CLIENTS[:-1]:
                rates[name][count].append(load(service.address, ask, count, seconds, warm_s=1.0).per_s)
            rates[name][CLIENTS[-1]].append(spent[name].load(asks[name], CLIENTS[-1], seconds))
    figures = {
        name: {
            "p50_ms": percentile(times[name], 50) or 0.0,
            "p95_ms": percentile(times[name], 95) or 0.0,
            **{f"per_s_{count}": sum(rates[name][count]) / rounds for count in CLIENTS},
        }
        for name in asks
    }
    return figures, {name: spent[name].ms_per_job for name in asks}


def lines(found: Figures) -> str:
    """A table of these figures, each with its ratio to the earlier revision's."""
    keys = tuple(found[EARLIER])
    rows = [
        (name, *(f"{table.number(values[key])} ({values[key] / found[EARLIER][key]:.2f} x)" for key in keys))
        for name, values in found.items()
    ]
    titles = ("p50 ms", "p95 ms", *(f"per s, {count} clients" for count in CLIENTS))
    return table.text(("service", *titles), rows)


def cpu_lines(cpu: Mapping[str, Mapping[str, float]]) -> str:
    """A table of CPU milliseconds a job."""
    names = list(dict.fromkeys(name for one in cpu.values() for name in one))
    rows = [
        (name, *(table.number(one.get(part)) for part in names), table.number(sum(one.values())))
        for name, one in cpu.items()
    ]
    return table.text(("CPU ms a job", *names, "all"), rows)


def _say(line: str) -> None:
    """Progress, apart from the results."""
    print(f"against: {line}", file=sys.stderr, flush=True)


def _run(engine: Engine, revision: str, rounds: int, requests: int, seconds: float) -> tuple[Figures, Figures]:
    with ExitStack() as closing:
        house = closing.enter_context(checkout(revision))
        _say(f"building the images that {revision} had, if they are not there; then both services are started")
        images = commands.python("worker.sandbox.images", "build", "--quiet")
        subprocess.run(images, cwd=house, env=os.environ | {"PYTHONPATH": str(house)}, check=True)
        earlier = closing.enter_context(Service(house=house))
        ours = closing.enter_context(Service())
        asks: dict[str, Ask] = {
            EARLIER: (earlier, partial(request, earlier.address, earlier.key, JOB)),
            OURS: (ours, partial(request, ours.address, ours.key, JOB)),
            GUARDED: (ours, guarded(ours)),
        }
        for service, ask in asks.values():
            load(service.address, ask, max(CLIENTS), 2.0, warm_s=5.0)
        if not machine.wait_quiet(60):
            _say("WARNING: the machine did not become quiet")
        return measure(engine, asks, rounds, requests, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("revision", help="of this repository, for example a tag")
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    chosen = parser.parse_args(arguments)
    rounds, requests, seconds = (1, 20, 2.0) if chosen.quick else (6, 100, 4.0)
    bench = Bench()
    try:
        facts: dict[str, Any] = machine.facts(bench.engine, ROOT)
        stolen, began = machine.stolen_s(), time.monotonic()
        found, cpu = _run(bench.engine, chosen.revision, rounds, requests, seconds)
        facts |= {"seconds": time.monotonic() - began, "stolen_s": machine.stolen_s() - stolen}
    finally:
        bench.close()
    chosen.output.mkdir(parents=True, exist_ok=True)
    name = "against.trial.json" if chosen.quick else "against.json"
    result = {"machine": facts, "revision": chosen.revision, "rounds": rounds, "services": found, "cpu_ms": cpu}
    (chosen.output / name).write_text(json.dumps(result, indent=2) + "\n")
    print(f"{lines(found)}\n\n{cpu_lines(cpu)}")
    if (stolen_line := machine.stolen(facts)) is not None:
        print(f"\n{stolen_line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
