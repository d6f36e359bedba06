"""`make soak`: many mixed jobs in a row from several clients, then a look for anything that they left.

Programs that end well and badly, small and large, in fresh and in used sandboxes, in every language offered.
Each must end in its own verdict with its own output; afterwards no container, process, descriptor or file may
be left, and the worker may have grown by less than 5 %.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import docker
import httpx

from tests.hostile.entries import Document
from tests.hostile.invariants import Invariants, footprint
from tests.hostile.stage import Stage, raised

#: Worker memory may grow by this share between the end of the warm-up and the end.
GROWTH = 0.05

CLIENTS = 6
SEED = 20261121


@dataclass(frozen=True)
class Kind:
    """A job, and how it must end; `weight`: how often it comes."""

    name: str
    job: Document
    verdict: str
    stdout: str | None = None
    weight: int = 10


@dataclass
class Tally:
    """What came of the jobs."""

    verdicts: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


SMALL = {"timeout_s": 10, "memory_mb": 64, "output_bytes": 65536}
SHORT = {"timeout_s": 1, "memory_mb": 64}

KINDS = [
    Kind("hello", {"code": "print('hello')"}, "ok", "hello\n", 30),
    Kind("hello, used", {"code": "print('hello')", "reuse": "caller"}, "ok", "hello\n", 60),
    Kind("stdin", {"code": "print(len(input()))", "stdin": "x" * 100_000}, "ok", "100000\n"),
    Kind("large code", {"code": "x = '" + "y" * 500_000 + "'\nprint(len(x))"}, "ok", "500000\n", 3),
    Kind("output", {"code": "print('z' * 300_000)", "reuse": "caller"}, "ok", "z" * 300_000 + "\n"),
    Kind("numpy", {"code": "import numpy; print(numpy.arange(10).sum())", "reuse": "caller"}, "ok", "45\n"),
    Kind(
        "children", {"code": "import subprocess; print(subprocess.run('echo a', shell=True).returncode)"}, "ok"
    ),
    Kind("files", {"code": "for i in range(200): open(f'{i}', 'w').write('x')", "reuse": "caller"}, "ok", ""),
    Kind("raises", {"code": "1 / 0", "reuse": "caller"}, "error"),
    Kind("killed", {"code": "import os; os.kill(os.getpid(), 9)", "reuse": "caller"}, "signalled"),
    Kind("memory", {"code": "x = b'x' * (300 << 20)", "limits": SMALL}, "out_of_memory", None, 3),
    Kind("flood", {"code": "while True: print('x' * 99)", "limits": SMALL}, "output_limit", None, 3),
    Kind("endless", {"code": "while True: pass", "limits": SHORT}, "timeout", None, 1),
    Kind("daemon", {"code": "import os\nif os.fork() == 0:\n    while True: pass", "reuse": "caller"}, "ok"),
]

#: For each further language, where it is offered.
HELLO = {
    "bash": "echo hello",
    "javascript": "console.log('hello')",
    "r": "cat('hello\\n')",
    "rust": 'fn main() { println!("hello"); }',
}


def kinds(languages: Sequence[str]) -> list[Kind]:
    """Everything that can be run here."""
    more = [
        Kind(f"{name}, {reuse}", {"code": code, "language": name, "reuse": reuse}, "ok", "hello\n", 5)
        for name, code in HELLO.items()
        if name in languages
        for reuse in ("never", "caller")
    ]
    return KINDS + more


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if anything is wrong or left."""
    parser = argparse.ArgumentParser(
        prog="make soak", description="Many mixed jobs, then a look for leftovers."
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--tier", default="runc")
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="retort-soak-"))
    try:
        with raised(folder, docker.from_env(), chosen.tier) as stage:
            wrong = soak(stage, chosen.jobs)
    except AssertionError as left:
        wrong = [str(left)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for sentence in wrong:
        print(f"WRONG       {sentence}")
    print("failed" if wrong else "passed: no container, process, descriptor or file is left")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
