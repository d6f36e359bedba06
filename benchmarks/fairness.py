"""`python -m benchmarks.fairness`: how long one job waits while another caller has 10,000 in the queue.

The bound is the length of a job: a place is free when the first of those that run ends. That is the median time
for which a job of the backlog was recorded to have its place; its program alone is shorter. A wait is from the
submission to the claim, as the service recorded both; the time until the answer is kept beside it, with and
without the backlog, for what else the busy machine costs. With `--batch` the 10,000 come in one request, and
the waits begin while it is being stored.

Jobs that end sooner than the machine can make containers for them have their places for much longer than they
run; with such (`--length 0.5`) it is the machine that is measured, so the default is enough for two processors.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
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
        lengths = await _lengths(session, heavy)
    return {
        "heavy_jobs": jobs,
        "heavy_job_s": length_s,
        "in_one_request": batch,
        "stored_s": stored_s,
        "still_waiting": left,
        "heavy_in_place_s": _short(lengths),
        "alone_s": _short([took for took, _ in alone]),
        "alone_waited_s": _short([waited for _, waited in alone]),
        "beside_s": _short([took for took, _ in beside]),
        "beside_waited_s": _short([waited for _, waited in beside]),
    }


def _short(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "p95": percentile(values, 95), "max": max(values)}


def _between(job: dict[str, Any], first: str, second: str) -> float:
    return (datetime.fromisoformat(job[second]) - datetime.fromisoformat(job[first])).total_seconds()


async def _lengths(session: aiohttp.ClientSession, headers: dict[str, str]) -> list[float]:
    """How long the latest of the heavy caller's jobs had their places."""
    async with session.get("/v1/jobs?state=finished&limit=100", headers=headers) as answer:
        jobs = (await answer.json())["jobs"]
    return [_between(job, "started_at", "finished_at") for job in jobs]


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


async def _once(session: aiohttp.ClientSession, headers: dict[str, str]) -> tuple[float, float]:
    """Until it was answered, and until it was claimed."""
    began = time.perf_counter()
    async with session.post("/v1/jobs", json=LIGHT, headers={**headers, "Prefer": "wait=60"}) as answer:
        job = await answer.json()
    if job.get("verdict") != "ok":
        raise RuntimeError(f"not a job that ended well: {job}")
    return time.perf_counter() - began, _between(job, "created_at", "started_at")


async def _waiting(session: aiohttp.ClientSession, headers: dict[str, str]) -> bool:
    async with session.get("/v1/jobs?state=queued&limit=1", headers=headers) as answer:
        return bool((await answer.json())["jobs"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if the light caller waited for longer than a job."""
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
    text = json.dumps(found, indent=2)
    print(text)
    chosen.output.mkdir(parents=True, exist_ok=True)
    name = "fairness-batch" if chosen.batch else "fairness"
    (chosen.output / f"{name}{'-trial' if chosen.quick else ''}.json").write_text(text + "\n")
    if not found["still_waiting"]:
        print("the backlog ended before the trials did; nothing was shown", file=sys.stderr)
        return 1
    return int(found["beside_waited_s"]["max"] > found["heavy_in_place_s"]["p50"])


if __name__ == "__main__":
    sys.exit(main())
