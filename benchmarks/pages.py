"""`python -m benchmarks.pages`: how long the server takes for each page when 100,000 jobs are stored.

The jobs are one caller's, of the last two days, so that the picture of the last day counts half of them. Times
are those of whole answers over loopback; the first of each is told apart.
"""

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import create_engine, insert, select, text

from benchmarks.run import RESULTS
from benchmarks.service import Service
from benchmarks.stats import percentile
from domain.limits import load_profiles
from domain.tables import attempts, callers, jobs

#: Milliseconds in which the list of runs must be there.
MOST_MS = 200

PATHS = (
    "/runs",
    "/runs?verdict=error",
    "/runs?state=queued",
    "/runs?text=nowhere",
    "/numbers",
    "/numbers?window=month",
)
_VERDICTS = ("ok",) * 17 + ("error", "timeout", "out_of_memory")
_TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


def stored(caller_id: UUID, count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Jobs that have ended, oldest first, each with its attempt."""
    dice = random.Random(1)  # noqa: S311 (no secret)
    limits = load_profiles()["standard"].defaults.as_dict()
    now = datetime.now(UTC)
    for number in range(count):
        at = now - timedelta(days=2) * (1 - number / count)
        tail = dice.getrandbits(62)
        job_id = UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62 | tail)
        took = timedelta(seconds=dice.expovariate(20))
        verdict = dice.choice(_VERDICTS)
        times = {"created_at": at, "started_at": at, "finished_at": at + took}
        code = f"print({number})\n" + "# a line of code as others are\n" * 20
        job = {"id": job_id, "caller_id": caller_id, "code": code, "language": "python", "profile": "standard"}
        yield (
            {**job, "limits": limits, "state": "finished", "verdict": verdict, **times},
            {"job_id": job_id, "number": 1, "verdict": verdict, "wall_s": took.total_seconds()},
        )


def fill(url: str, count: int) -> None:
    """Store the jobs."""
    engine = create_engine(url)
    with engine.begin() as connection:
        caller_id = connection.execute(select(callers.c.id)).scalars().one()
        batch: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for pair in stored(caller_id, count):
            batch.append(pair)
            if len(batch) == 5000:
                _store(connection, batch)
                batch = []
        if batch:
            _store(connection, batch)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def _store(connection: Any, batch: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    connection.execute(insert(jobs), [job for job, _ in batch])
    connection.execute(insert(attempts), [attempt for _, attempt in batch])


def measure(url: str, key: str, trials: int) -> dict[str, Any]:
    """Milliseconds of each page."""
    found: dict[str, Any] = {}
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        token = _TOKEN.search(client.get("/sign-in").text)
        assert token is not None
        answer = client.post("/sign-in", data={"token": token[1], "key": key})
        assert answer.status_code == 303
        for path in PATHS:
            times = [_once(client, path) for _ in range(trials)]
            found[path] = {"first": times[0], "p50": percentile(times, 50), "max": max(times)}
        older = re.search(r'href="(/runs\?[^"]*cursor[^"]*)"', client.get("/runs").text)
        assert older is not None
        times = [_once(client, older[1].replace("&amp;", "&")) for _ in range(trials)]
        found["older"] = {"first": times[0], "p50": percentile(times, 50), "max": max(times)}
    return found


def _once(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    answer = client.get(path)
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, answer.text
    return round(took, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if the list took longer than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs: to see that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    chosen = parser.parse_args(arguments)
    count, trials = (5_000, 5) if chosen.quick else (100_000, 20)
    with Service() as service:
        fill(service.database_url, count)
        host, port = service.address
        found = measure(f"http://{host}:{port}", service.key, trials)
    text_ = json.dumps({"jobs": count, "ms": found}, indent=2)
    print(text_)
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / ("pages-trial.json" if chosen.quick else "pages.json")).write_text(text_ + "\n")
    slow: bool = found["/runs"]["p50"] > MOST_MS
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
