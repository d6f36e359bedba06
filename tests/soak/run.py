"""`make soak MINUTES=30`: mixed load on two workers while faults come at random; prints and keeps the figures.

With `--jobs N` there are no faults: so many jobs, then a look for anything that they left (`leftovers`).
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker

from tests.soak import figures, leftovers
from tests.soak.faults import EXPECTED, FAULTS
from tests.soak.figures import Sample
from tests.soak.kinds import kinds
from tests.soak.load import Ledger, client_of
from tests.soak.stack import Stack

CLIENTS = 6
SAMPLE_S = 5.0
#: Seconds between two faults, at random.
PAUSE_S = (4.0, 16.0)
#: Seconds for all jobs to end once no more come.
DRAIN_S = 180.0
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


class Soak:
    """One soak on a stack."""

    def __init__(self, stack: Stack, seconds: float, seed: int, names: Sequence[str]) -> None:
        self._stack = stack
        self._seconds = seconds
        self._seed = seed
        self._names = names
        self.ledger = Ledger()
        self.samples: list[Sample] = []
        self.injected: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()
        self._wrong: list[str] = []
        self._injected = threading.Event()  # the last fault
        self._over = threading.Event()

    def run(self) -> dict[str, Any]:
        """Load and faults until time is up, then what came of it."""
        stack, began = self._stack, time.monotonic()
        until = began + self._seconds
        with stack.client() as client:
            offered = [each["name"] for each in client.get("/v1/languages").json()["languages"]]
        chosen = kinds(offered, tasks=True)
        threads = [
            threading.Thread(target=client_of, args=(stack, chosen, self.ledger, until, self._seed + number))
            for number in range(CLIENTS)
        ]
        injecting = threading.Thread(target=self._inject, args=(until,))
        for thread in (*threads, injecting):
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads) or not self._injected.is_set():
                self.mended.update(stack.mend())
                found = figures.sample(stack, began)
                if found is not None:
                    self.samples.append(found)
                time.sleep(SAMPLE_S)
            left = stack.drained(DRAIN_S)
        finally:
            self._over.set()
            injecting.join()
        return self._figures(time.monotonic() - began, left)

    def _inject(self, until: float) -> None:
        chance = random.Random(self._seed)  # noqa: S311
        while time.monotonic() < until:
            time.sleep(chance.uniform(*PAUSE_S))
            name = chance.choice(list(self._names))
            try:
                FAULTS[name](self._stack, chance)
            except EXPECTED as e:
                self.injected[f"{name}: {type(e).__name__}"] += 1
            except Exception as e:  # noqa: BLE001 - a soak that can inject no more faults must say so
                self._wrong.append(f"the fault {name!r} failed: {type(e).__name__}: {e}")
            else:
                self.injected[name] += 1
        self._injected.set()
        # What it started ends with this thread, as it should with a parent that dies.
        self._over.wait()

    def _figures(self, seconds: float, left: int) -> dict[str, Any]:
        stack, ledger = self._stack, self.ledger
        statuses = stack.stop_workers()
        containers = stack.containers()
        books = figures.books(stack, ledger)
        held = figures.flat(self.samples)
        took = sorted(ledger.seconds)
        wrong = [*self._wrong, *ledger.wrong]
        wrong += [f"{left} jobs have not ended"] if left else []
        wrong += [f"{books[name]} jobs {name}" for name in ("missing", "unfinished", "doubled") if books[name]]
        wrong += [f"broken: {each}" for each in books["broken"]]
        wrong += [f"{len(ledger.given_up)} jobs were given up by their client"] if ledger.given_up else []
        wrong += [f"{name} is not flat: {each['thirds']}" for name, each in held.items() if not each["flat"]]
        wrong += [f"{containers} containers are left"] if containers else []
        wrong += [f"a worker ended with {status}" for status in statuses if status]
        return {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self._seed,
            "seconds": round(seconds, 1),
            "workers": len(stack.places),
            "clients": CLIENTS,
            "jobs_per_s": round(len(ledger.accepted) / self._seconds, 2),
            "seconds_p50": took[len(took) // 2] if took else None,
            "seconds_p99": took[int(len(took) * 0.99)] if took else None,
            "books": books,
            "verdicts": dict(ledger.verdicts),
            "tried_again": dict(ledger.errors),
            "faults": dict(self.injected),
            "mended": dict(self.mended),
            "starts": {place.instance: place.starts for place in stack.places} | {"api": stack.api_starts},
            "held": held,
            "wrong": wrong,
            "samples": figures.as_dicts(self.samples),
        }


def lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    books, held = found["books"], found["held"]
    told = [
        f"time        {found['seconds']:.0f} s, {found['workers']} workers, {found['clients']} clients, "
        f"seed {found['seed']}",
        f"jobs        {books['jobs']}, {found['jobs_per_s']} per second; "
        f"p50 {found['seconds_p50'] or 0:.2f} s, p99 {found['seconds_p99'] or 0:.2f} s",
        f"books       {books['missing']} missing, {books['unfinished']} unfinished, "
        f"{books['doubled']} doubled, {len(books['broken'])} broken; "
        f"{books['attempts_lost_with_a_worker']} runs were lost with a worker",
        f"verdicts    {found['verdicts']}",
        f"tried again {found['tried_again']}",
        f"faults      {sum(found['faults'].values())}, of {len(FAULTS)} kinds",
    ]
    told += [f"              {count:3d} x {name}" for name, count in sorted(found["faults"].items())]
    told += [
        f"{name:12}{' -> '.join(map(str, each['thirds']))} {'flat' if each['flat'] else 'NOT FLAT'}"
        for name, each in held.items()
    ]
    return told


def soak(minutes: float, seed: int, names: Sequence[str], output: Path) -> list[str]:
    """Soak for so long; what is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="rt-soak-"))
    found: dict[str, Any] = {}
    try:
        with ExitStack() as closing:
            stack = Stack(folder, docker.from_env(), closing)
            found = Soak(stack, 60 * minutes, seed, names).run()
    finally:
        if found and not found["wrong"]:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs        {folder}")
    output.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines(found)))
    wrong: list[str] = found["wrong"]
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", default=",".join(FAULTS), help="names, with commas between")
    parser.add_argument("--output", type=Path, default=RESULTS / "soak.json")
    parser.add_argument("--jobs", type=int, help="no faults: so many jobs, then a look for what they left")
    parser.add_argument("--tier", default="runc", help="with --jobs")
    chosen = parser.parse_args(arguments)
    if chosen.jobs is not None:
        wrong = leftovers.count_leftovers(chosen.jobs, chosen.tier)
    else:
        wrong = soak(chosen.minutes, chosen.seed, chosen.faults.split(","), chosen.output)
    for sentence in wrong:
        print(f"WRONG       {sentence}")
    print("failed" if wrong else "passed: nothing was lost, doubled or left")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
