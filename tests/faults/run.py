"""`make faults`: every fault of the table, so many times each, and a table of what came of it.

Seeds draw moments and victims. A failure is told with its seed: `--only NAME --times 1 --seed SEED` repeats it,
as far as a machine's timing lets it be repeated.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker

import tests.faults.catalogue  # noqa: F401 (fills the table)
from tests.faults import dockerd
from tests.faults.entries import ELSEWHERE, FAULTS, Fault, NotHere, Trial
from tests.faults.host import LEASE_S
from tests.faults.stack import Stack, raised
from tests.faults.work import percentile

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.json"
SEED = 20261121

#: After all others on the machine's engine: 100,000 jobs stay in the database.
LAST = frozenset({"F37"})


@dataclass
class Row:
    """What came of one entry."""

    fault: Fault
    right: int = 0
    took: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # one sentence each, with its seed
    not_here: str | None = None

    @property
    def repetitions(self) -> int:
        """So many were made."""
        return self.right + len(self.wrong)

    def as_dict(self) -> dict[str, Any]:
        """For the file of results."""
        return {
            "what": self.fault.what,
            "promise": self.fault.promise,
            "within_s": self.fault.within_s,
            "repetitions": self.repetitions,
            "right": self.right,
            "worst_s": round(max(self.took), 2) if self.took else None,
            "median_s": round(percentile(self.took, 0.5), 2) if self.took else None,
            "wrong": self.wrong,
            "not_here": self.not_here,
            "when": datetime.now(UTC).date().isoformat(),
        }


class Runner:
    """Runs entries on a stack, which is raised anew after a failure."""

    def __init__(self, hosts: int, outage_s: float, stop: threading.Event) -> None:
        self._engine = docker.from_env()
        self._hosts = hosts
        self._outage_s = outage_s
        self._stop = stop
        self._closing = ExitStack()
        self._stack: Stack | None = None
        self._folder: Path | None = None
        self.figures: dict[str, list[float]] = {}
        self.left: list[str] = []  # what was wrong when a stack ended

    def _raised(self, fault: Fault) -> Stack:
        if self._stack is not None and (self._stack.own is not None) != fault.restarts:
            self.close()
        if fault.restarts and (reason := dockerd.why_not()):
            raise NotHere(reason)
        if self._stack is None:
            # Short: the paths of sockets have a limit.
            self._folder = Path(tempfile.mkdtemp(prefix="retort-faults-"))
            entered = self._closing.enter_context
            own = entered(dockerd.own_engine(self._folder / "engine", self._engine)) if fault.restarts else None
            self._stack = entered(raised(self._folder, self._engine, self._hosts, own))
        return self._stack

    def close(self, *, failed: bool = False) -> None:
        """End the stack; after a failure its logs are kept."""
        if self._stack is not None and not failed:
            self.left += self._stack.end()
        self._closing.close()
        self._closing = ExitStack()
        self._stack = None
        if self._folder is not None and not failed:
            shutil.rmtree(self._folder, ignore_errors=True)
        elif self._folder is not None:
            print(f"  logs are in {self._folder}", flush=True)
        self._folder = None

    def run(self, fault: Fault, seeds: Iterable[int]) -> Row:
        """One entry, once for each seed; fewer if told to stop."""
        row = Row(fault)
        for seed in seeds:
            if self._stop.is_set():
                break
            try:
                trial = Trial(self._raised(fault), seed, self._outage_s)
                took = fault.inject(trial)
                trial.stack.heal()
            except NotHere as reason:
                row.not_here = str(reason)
                break
            except Exception as reason:  # noqa: BLE001 (whatever it is, it is told, and the next one runs)
                said = str(reason).splitlines()
                row.wrong.append(f"seed {seed}: {type(reason).__name__}: {said[0] if said else ''}"[:600])
                print("".join(traceback.format_exception(reason)[-4:]), flush=True)
                self.close(failed=True)
                continue
            for name, values in trial.figures.items():
                self.figures.setdefault(name, []).extend(values)
            row.took.append(took)
            if took > fault.within_s:
                row.wrong.append(f"seed {seed}: took {took:.1f} s, may take {fault.within_s:g} s")
            else:
                row.right += 1
        if self._stack is not None:
            try:
                self._stack.settle()
            except AssertionError as reason:
                row.wrong.append(f"afterwards: {reason}"[:600])
                self.close(failed=True)
        return row


class Suite:
    """Entries, and what came of them, on one stack or on several side by side."""

    def __init__(self, faults: Sequence[Fault], seeds: Sequence[int], hosts: int, outage_s: float) -> None:
        self._waiting = deque(faults)
        self._seeds = seeds
        self._hosts = hosts
        self._outage_s = outage_s
        self._stop = threading.Event()
        self._runners: list[Runner] = []
        self._rows: list[Row] = []
        self._done = threading.Lock()

    def run(self, stacks: int, after_each: Callable[[], None]) -> None:
        """Run all, so many at a time; `after_each` is called once for each row, never twice at a time."""
        self._runners = [Runner(self._hosts, self._outage_s, self._stop) for _ in range(stacks)]
        with ThreadPoolExecutor(stacks) as threads:
            under_way = [threads.submit(self._take_turns, runner, after_each) for runner in self._runners]
            try:
                for each in under_way:
                    each.result()
            finally:  # also where somebody presses Ctrl-C: what runs ends first
                self._stop.set()

    def _take_turns(self, runner: Runner, after_each: Callable[[], None]) -> None:
        try:
            while not self._stop.is_set():
                try:
                    fault = self._waiting.popleft()
                except IndexError:
                    break
                began = time.monotonic()
                row = runner.run(fault, self._seeds)
                said = row.not_here or f"{row.right} of {row.repetitions} right"
                with self._done:
                    self._rows.append(row)
                    print(f"{fault.name}: {said}, {time.monotonic() - began:.0f} s", flush=True)
                    after_each()
        finally:
            runner.close()

    @property
    def rows(self) -> list[Row]:
        """In the table's order."""
        return sorted(self._rows, key=lambda row: _order(row.fault))

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """Median, p95 and worst of each figure."""
        every: dict[str, list[float]] = {}
        for runner in self._runners:
            for name, values in list(runner.figures.items()):
                every.setdefault(name, []).extend(values)
        return summed_up(every)

    @property
    def wrong(self) -> list[str]:
        """All that was wrong, one sentence each."""
        of_rows = [f"{row.fault.name}: {sentence}" for row in self.rows for sentence in row.wrong]
        return of_rows + [sentence for runner in self._runners for sentence in runner.left]


def _order(fault: Fault) -> tuple[bool, bool, str]:
    return fault.restarts, fault.row in LAST, fault.name


def chosen(only: str) -> list[Fault]:
    """The entries that are named, by row or in full, or all.

    Raises:
        SystemExit: there is none of a name.
    """
    found = sorted(FAULTS.values(), key=_order)
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if not any(name in (each.name, each.row) for each in found):
            raise SystemExit(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    return [each for each in found if not names or each.name in names or each.row in names]


def table(rows: Sequence[Row]) -> str:
    """What came of it, for a terminal."""
    lines = [f"{'fault':<24} {'times':>5} {'right':>5} {'worst':>8} {'bound':>7}"]
    for row in rows:
        worst = f"{max(row.took):.1f} s" if row.took else "-"
        said = "" if row.not_here is None else f"  not here: {row.not_here}"
        times = f"{row.repetitions:>5} {row.right:>5} {worst:>8} {row.fault.within_s:>5g} s"
        lines.append(f"{row.fault.name:<24} {times}{said}")
    return "\n".join(lines)


def summed_up(figures: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, p95 and worst of each figure, in seconds."""
    return {
        name: {
            "count": len(values),
            "median_s": round(percentile(values, 0.5), 2),
            "p95_s": round(percentile(values, 0.95), 2),
            "worst_s": round(max(values), 2),
        }
        for name, values in sorted(figures.items())
    }


def keep(path: Path, rows: Sequence[Row], figures: dict[str, dict[str, float]]) -> None:
    """Put these rows and figures in the place of former ones."""
    kept: dict[str, Any] = {"rows": {}, "figures": {}}
    if path.exists():
        kept = json.loads(path.read_text())
    kept["lease_s"] = LEASE_S
    kept["rows"] |= {row.fault.name: row.as_dict() for row in rows if row.repetitions or row.not_here}
    kept["rows"] = dict(sorted(kept["rows"].items()))
    kept["figures"] |= figures
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make faults", description="Faults, and what must hold nevertheless.")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", default="", help="rows or entries, with commas between: F01,F03.claimed")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first repetition")
    parser.add_argument("--hosts", type=int, default=2, choices=(2, 3), help="workers")
    parser.add_argument("--stacks", type=int, default=1, help="services that are hurt at the same time")
    parser.add_argument("--outage", type=float, default=1.0, help="seconds for which a model is away (F25)")
    parser.add_argument("--keep", type=Path, default=None, help=f"file for the figures, such as {RESULTS.name}")
    given = parser.parse_args(arguments)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    suite = Suite(chosen(given.only), range(given.seed, given.seed + given.times), given.hosts, given.outage)

    def after_each() -> None:
        if given.keep is not None:
            keep(given.keep, suite.rows, suite.figures)

    suite.run(given.stacks, after_each)
    print(f"\n{table(suite.rows)}\n")
    for name, each in suite.figures.items():
        print(f"{name}: median {each['median_s']} s, p95 {each['p95_s']} s, worst {each['worst_s']} s")
    if not given.only:
        for name, where in ELSEWHERE.items():
            print(f"{name}: {where}")
    wrong = suite.wrong
    for sentence in wrong:
        print(f"WRONG {sentence}")
    print("failed" if wrong else "passed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
