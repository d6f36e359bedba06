"""`python -m benchmarks.fairness`: how long one job waits while another caller has 10,000 in the queue.

The bound of each wait is the length of a job: of the longest among those of the backlog that had their places
while it lasted, from claim to end as the service recorded them. Whoever waited longer than each of these saw a
place given to somebody else. A wait is from the submission to the claim, recorded as well; the time until the
answer is kept beside it, with and without the backlog, for what else the busy machine costs. With `--batch` the
10,000 come in one request, and the waits begin while it is being stored.

Jobs that end sooner than the machine can make containers for them have their places for much longer than they
run; with such (`--length 0.5`) it is the machine that is measured, so the default is enough for two processors.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.run import RESULTS
from benchmarks.service import Service
from benchmarks.stats import percentile

#: Seconds that each job of the heavy caller takes.
LENGTH_S = 2.0
LIGHT = {"code": "print(1)"}


@dataclass(frozen=True)
class Times:
    """Of one job, as recorded."""

    created: datetime
    started: datetime
    finished: datetime

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> "Times":
        """From the answer that describes it."""
        return cls(*(datetime.fromisoformat(job[f"{each}_at"]) for each in ("created", "started", "finished")))

    @property
    def waited_s(self) -> float:
        """Until it was claimed."""
        return (self.started - self.created).total_seconds()

    @property
    def in_place_s(self) -> float:
        """From then to its end."""
        return (self.finished - self.started).total_seconds()

    def longest_s(self, others: Sequence["Times"]) -> float:
        """The longest of those that had their places while it waited; 0 if none had."""
        beside = (each for each in others if each.started < self.started and each.finished > self.created)
        return max((each.in_place_s for each in beside), default=0.0)


async def measure(
    url: str, key: str, *, jobs: int, trials: int, batch: bool, length_s: float
) -> dict[str, Any]:
    """What the light caller's jobs took and waited, before and during the backlog; seconds."""
    job = {"code": f"import time; time.sleep({length_s})"}
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=16)) as session:
        heavy, light = [await _caller(session, key, name) for name in ("heavy", "light")]
        alone = [await _once(session, light) for _ in range(trials)]
        submit = _batch if batch else _submit_all
        backlog = asyncio.gather(submit(session, heavy, [job] * jobs))
        if not batch:
            await backlog
        beside = []
        for _ in range(trials):
            beside.append(await _once(session, light))
            await asyncio.sleep(0.1)
        (stored_s,) = await backlog
        left = await _waiting(session, heavy)
        await asyncio.sleep(length_s + 1)  # those that had places during the last trial end
        others = await _finished(session, heavy)
    # Where none was under way, as the batch was still being stored: the shortest that there was.
    shortest = min(each.in_place_s for each in others)
    waits = [(times.waited_s, times.longest_s(others) or shortest) for _, times in beside]
    return {
        "heavy_jobs": jobs,
        "heavy_job_s": length_s,
        "in_one_request": batch,
        "stored_s": stored_s,
        "still_waiting": left,
        "heavy_in_place_s": _short([each.in_place_s for each in others]),
        "alone_s": _short([took for took, _ in alone]),
        "alone_waited_s": _short([times.waited_s for _, times in alone]),
        "beside_s": _short([took for took, _ in beside]),
        "beside_waited_s": _short([waited for waited, _ in waits]),
        "waited_and_bound_s": [[round(value, 3) for value in each] for each in waits],
        "longer_than_a_job": sum(waited > bound for waited, bound in waits),
    }


def _short(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "p95": percentile(values, 95), "max": max(values)}


async def _finished(session: aiohttp.ClientSession, headers: dict[str, str]) -> list[Times]:
    """All of a caller's jobs that have finished."""
    found: list[Times] = []
    asked = {"state": "finished", "limit": "100"}
    while True:
        async with session.get("/v1/jobs", params=asked, headers=headers) as answer:
            answer.raise_for_status()
            document = await answer.json()
        found += [Times.of(job) for job in document["jobs"]]
        if document["next_cursor"] is None:
            return found
        asked["cursor"] = document["next_cursor"]


async def _caller(session: aiohttp.ClientSession, key: str, name: str) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post("/v1/callers", json={"name": name}, headers=headers) as answer:
        answer.raise_for_status()
        caller_id = (await answer.json())["id"]
    async with session.post("/v1/keys", json={"caller_id": caller_id}, headers=headers) as answer:
        answer.raise_for_status()
        return {"Authorization": f"Bearer {(await answer.json())['key']}"}


async def _submit_all(
    session: aiohttp.ClientSession, headers: dict[str, str], jobs: Sequence[Mapping[str, Any]]
) -> float:
    """Seconds until all are stored, each by a request of its own."""
    began = time.perf_counter()
    await asyncio.gather(*(_submit(session, headers, job) for job in jobs))
    return time.perf_counter() - began


async def _batch(
    session: aiohttp.ClientSession, headers: dict[str, str], jobs: Sequence[Mapping[str, Any]]
) -> float:
    """Seconds until all are stored, in one request."""
    began = time.perf_counter()
    body = "".join(json.dumps(job) + "\n" for job in jobs)
    lines = {**headers, "Content-Type": "application/x-ndjson"}
    async with session.post("/v1/batches", data=body, headers=lines) as answer:
        answer.raise_for_status()
    return time.perf_counter() - began


async def _submit(session: aiohttp.ClientSession, headers: dict[str, str], job: Mapping[str, Any]) -> None:
    async with session.post("/v1/jobs", json=job, headers=headers) as answer:
        answer.raise_for_status()


async def _once(session: aiohttp.ClientSession, headers: dict[str, str]) -> tuple[float, Times]:
    """Seconds until it was answered, and what was recorded."""
    began = time.perf_counter()
    async with session.post("/v1/jobs", json=LIGHT, headers={**headers, "Prefer": "wait=60"}) as answer:
        job = await answer.json()
    if job.get("verdict") != "ok":
        raise RuntimeError(f"not a job that ended well: {job}")
    return time.perf_counter() - began, Times.of(job)


async def _waiting(session: aiohttp.ClientSession, headers: dict[str, str]) -> bool:
    async with session.get("/v1/jobs?state=queued&limit=1", headers=headers) as answer:
        return bool((await answer.json())["jobs"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a job of the light caller waited for longer than a job."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few jobs: to see that it works")
    parser.add_argument("--batch", action="store_true", help="the backlog comes as one batch")
    parser.add_argument("--length", type=float, default=LENGTH_S, help="seconds that each of its jobs runs")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    chosen = parser.parse_args(arguments)
    jobs, trials = (300, 5) if chosen.quick else (10_000, 50)
    with Service() as service:
        host, port = service.address
        found = asyncio.run(
            measure(
                f"http://{host}:{port}",
                service.key,
                jobs=jobs,
                trials=trials,
                batch=chosen.batch,
                length_s=chosen.length,
            )
        )
    chosen.output.mkdir(parents=True, exist_ok=True)
    name = "fairness-batch" if chosen.batch else "fairness"
    text = json.dumps(found, indent=2)
    (chosen.output / f"{name}{'-trial' if chosen.quick else ''}.json").write_text(text + "\n")
    waits = found.pop("waited_and_bound_s")
    print(json.dumps(found, indent=2))
    for waited, bound in sorted(waits)[-3:]:
        print(f"waited {waited} s; the longest job in the meantime took {bound} s")
    if not found["still_waiting"]:
        print("the backlog ended before the trials did; nothing was shown", file=sys.stderr)
        return 1
    return int(found["longer_than_a_job"] > 0)


if __name__ == "__main__":
    sys.exit(main())
