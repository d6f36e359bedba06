"""`make soak ARGS="--jobs 10000"`: many mixed jobs from several clients, then a look for what they left.

No faults are injected. Each must end in its own verdict with its own output; afterwards no container, process,
descriptor or file may be left, and the worker may have grown by less than 5 %.
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import docker
import httpx

from tests.hostile.invariants import Invariants, footprint
from tests.hostile.stage import Stage, raised
from tests.soak.kinds import Kind, kinds

#: Worker memory may grow by this share between the end of the warm-up and the end.
GROWTH = 0.05

CLIENTS = 6
SEED = 20261121


@dataclass
class Tally:
    """What came of the jobs."""

    verdicts: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(stage: Stage, count: int, chosen: list[Kind], tally: Tally, chance: random.Random) -> None:
    """So many jobs from several clients at once."""
    order = chance.choices(chosen, weights=[kind.weight for kind in chosen], k=count)

    def one(number: int) -> None:
        kind = order[number]
        client = stage.mallory if number % 2 else stage.alice
        try:
            job = stage.submit(client, kind.job).job
        except (AssertionError, httpx.HTTPError) as reason:
            tally.wrong.append(f"{kind.name}: {reason}"[:500])
            return
        tally.verdicts[str(job["verdict"])] += 1
        tally.starts["used" if job["usage"]["sandbox_reused"] else str(job["usage"]["sandbox_start"])] += 1
        if job["verdict"] != kind.verdict or (kind.stdout is not None and job["stdout"] != kind.stdout):
            tally.wrong.append(f"{kind.name}: {job['verdict']} {job['stdout'][:80]!r} {job['stderr'][-300:]!r}")

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, range(count)))


def soak(stage: Stage, jobs: int) -> list[str]:
    """Run them; what is wrong afterwards, one sentence each."""
    offered = [entry["name"] for entry in stage.alice.get("/v1/languages").json()["languages"]]
    chosen = kinds(offered)
    chance = random.Random(SEED)  # noqa: S311  (the same order each time)
    tally = Tally()
    invariants = Invariants(stage)
    warm = max(50, jobs // 10)
    run(stage, warm, chosen, tally, chance)
    before = footprint(stage.worker.process.pid)
    began = time.monotonic()
    run(stage, jobs - warm, chosen, tally, chance)
    took = time.monotonic() - began
    wrong = tally.wrong[:20]
    stage.kept_until = [time.monotonic() + 75] * 64  # whatever is kept for its caller now
    try:
        invariants.check()
    except AssertionError as reason:
        wrong.append(str(reason))
    after = footprint(stage.worker.process.pid)
    growth = after.memory_mb / before.memory_mb - 1
    if growth >= GROWTH:
        wrong.append(f"the worker grew by {growth:.1%}")
    print(f"jobs        {jobs} in {len(chosen)} kinds, {CLIENTS} clients, {', '.join(offered)}")
    print(f"rate        {(jobs - warm) / took:.1f} per second")
    print(f"verdicts    {dict(tally.verdicts)}")
    print(f"sandboxes   {dict(tally.starts)}")
    print(f"worker      {before} -> {after}: {growth:+.1%}")
    return wrong


def count_leftovers(jobs: int, tier: str) -> list[str]:
    """Raise a stage, run so many jobs on it, and say what is wrong or left."""
    folder = Path(tempfile.mkdtemp(prefix="retort-soak-"))
    try:
        with raised(folder, docker.from_env(), tier) as stage:
            return soak(stage, jobs)
    except AssertionError as left:
        return [str(left)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
