"""`python -m benchmarks.pages`: how long the server takes for each page when 100,000 jobs are stored.

The jobs are one caller's, of the last two days, so that the picture of the last day counts half of them. Times
are those of whole answers over loopback, as a browser asks that takes compressed answers; the first of each is
told apart. What a page loads beside itself is counted once: browsers keep it.

Pages with numbers are kept for some seconds, and for longer what hours came to that are over. So these pages
are also measured when none of them is kept, and once when no hour is.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import Engine, create_engine, func, select, text

from api.pages.kept import SECONDS as KEPT_S
from benchmarks.filling import fill
from benchmarks.machine import revision
from benchmarks.run import RESULTS, ROOT
from benchmarks.service import Service
from benchmarks.stats import percentile
from domain.tables.job import jobs
from domain.tables.usage import hourly_sums

#: Milliseconds in which the server must have each page ready, and the bytes that one may weigh with all that it
#: loads.
MOST_MS = 200
MOST_BYTES = 150_000

#: Pages that are kept for some seconds.
ANEW = {
    "runs": "/runs",
    "numbers of a day": "/numbers",
    "numbers of a week": "/numbers?window=week",
    "numbers of a month": "/numbers?window=month",
}

_TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')
_ASSET = re.compile(r'(?:src|href)="(/static/[^"]*)"')
_OLDER = re.compile(r'href="(/runs\?[^"]*cursor[^"]*)"')


def paths(engine: Engine, batch_id: UUID) -> dict[str, str]:
    """What is measured: what it shows, and where that is."""
    with engine.connect() as connection:
        some = connection.execute(select(jobs.c.id).where(jobs.c.task.is_not(None)).limit(1)).scalar_one()
    return {
        "runs": "/runs",
        "runs, a frequent verdict": "/runs?verdict=error",
        "runs, a rare verdict": "/runs?verdict=disk_limit",
        "runs, none in this state": "/runs?state=queued",
        "runs, a rare language": "/runs?language=rust",
        "runs, a model": "/runs?model=haiku-4",
        "runs, tasks alone": "/runs?kind=task",
        "runs, a frequent label": "/runs?label=team%3Da",
        "runs, a rare label": "/runs?label=team%3Drare",
        "runs, a label that none has": "/runs?label=nothing",
        "runs, a batch": f"/runs?batch={batch_id}",
        "runs, a failure of a batch": f"/runs?batch={batch_id}&verdict=timeout",
        "search, a frequent text": "/runs?text=compute",
        "search, a rare text": "/runs?text=needle",
        "search, a text that none has": "/runs?text=nowhere",
        "search, two letters": "/runs?text=zq",
        "search and a filter": "/runs?text=value_17&verdict=timeout",
        "search and rare filters": "/runs?text=print(9&verdict=timeout&language=bash",
        "a run": f"/runs/{some}",
        "batches": "/batches",
        "a batch of 10,000": f"/batches/{batch_id}",
        "numbers of a day": "/numbers",
        "numbers of a week": "/numbers?window=week",
        "numbers of a month": "/numbers?window=month",
        "new run": "/new",
    }


def measure(url: str, key: str, wanted: Mapping[str, str], trials: int) -> dict[str, dict[str, Any]]:
    """Of each page milliseconds, and bytes with and without what it loads, before compression."""
    found: dict[str, Any] = {}
    with signed_in(url, key) as client:
        older = _OLDER.search(client.get("/runs").text)
        more = {"runs, older": older[1].replace("&amp;", "&")} if older else {}
        for name, path in {**wanted, **more}.items():
            times, text = [], ""
            for _ in range(trials):
                took, text = timed(client, path)
                times.append(took)
            assets = sum(len(client.get(asset).content) for asset in set(_ASSET.findall(text)))
            found[name] = {
                "first_ms": times[0],
                "p50_ms": percentile(times, 50),
                "p95_ms": percentile(times, 95),
                "bytes": len(text.encode()),
                "bytes_in_all": len(text.encode()) + assets,
            }
    return found


@contextmanager
def signed_in(url: str, key: str) -> Iterator[httpx.Client]:
    """Somebody who is signed in."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        token = _TOKEN.search(client.get("/sign-in").text)
        assert token is not None
        answer = client.post("/sign-in", data={"token": token[1], "key": key})
        assert answer.status_code == 303
        yield client


def timed(client: httpx.Client, path: str) -> tuple[float, str]:
    """Milliseconds that a page takes, and the page."""
    began = time.perf_counter()
    answer = client.get(path)
    took = round((time.perf_counter() - began) * 1000, 1)
    assert answer.status_code == 200, (path, answer.text)
    return took, answer.text


def no_hour_kept(url: str, key: str, engine: Engine) -> float:
    """Milliseconds of the numbers of a month when no hour's sums are kept; then waits until they are."""
    with signed_in(url, key) as client:
        client.get("/runs?state=queued")  # a page before it, so that the server is warm
        took, _ = timed(client, "/numbers?window=month")
    past = select(func.count(func.date_trunc("hour", jobs.c.created_at).distinct())).where(
        jobs.c.created_at < func.date_trunc("hour", func.now()) - text("interval '1 hour'")
    )
    until = time.monotonic() + 120
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        wanted = connection.execute(past).scalar_one()
        while connection.execute(select(func.count()).select_from(hourly_sums)).scalar_one() < wanted:
            assert time.monotonic() < until, "the hours were never kept"
            time.sleep(0.1)
    return took


def made_anew(url: str, key: str, trials: int) -> dict[str, dict[str, Any]]:
    """Of pages that are kept for some seconds, milliseconds when they are not kept any more."""
    times: dict[str, list[float]] = {}
    with signed_in(url, key) as client:
        for _ in range(trials):
            time.sleep(KEPT_S + 0.5)
            for name, path in ANEW.items():
                times.setdefault(name, []).append(timed(client, path)[0])
    return {name: {"p50_ms": percentile(found, 50), "most_ms": max(found)} for name, found in times.items()}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures for a person."""
    lines = [f"{'page':<32}{'first':>9}{'p50':>9}{'p95':>9}{'page':>9}{'in all':>9}"]
    lines += [
        f"{name:<32}{each['first_ms']:>6.0f} ms{each['p50_ms']:>6.0f} ms{each['p95_ms']:>6.0f} ms"
        f"{each['bytes'] / 1000:>6.0f} KB{each['bytes_in_all'] / 1000:>6.0f} KB"
        for name, each in found.items()
    ]
    return "\n".join(lines)


def missed(found: Mapping[str, Mapping[str, Any]], anew: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Pages that take longer, or weigh more, than they may."""
    over = [
        name for name, each in found.items() if each["p50_ms"] > MOST_MS or each["bytes_in_all"] > MOST_BYTES
    ]
    return over + [f"{name}, made anew" for name, each in anew.items() if each["p50_ms"] > MOST_MS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a page takes longer, or weighs more, than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs: to see that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    chosen = parser.parse_args(arguments)
    count, trials = (5_000, 5) if chosen.quick else (100_000, 20)
    with Service() as service:
        engine = create_engine(service.database_url)
        batch_id = fill(engine, count)
        wanted = paths(engine, batch_id)
        url = "http://{}:{}".format(*service.address)
        before = no_hour_kept(url, service.key, engine)
        engine.dispose()
        found = measure(url, service.key, wanted, trials)
        anew = made_anew(url, service.key, 2 if chosen.quick else 6)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    result = {
        "at": when,
        "revision": revision(ROOT),
        "jobs": count,
        "pages": found,
        "made_anew": anew,
        "numbers_when_no_hour_is_kept_ms": before,
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    name = "pages.trial.json" if chosen.quick else "pages.json"
    (chosen.output / name).write_text(json.dumps(result, indent=2) + "\n")
    print(table(found))
    for name, each in anew.items():
        print(f"{name + ', made anew':<32}{each['p50_ms']:>15.0f} ms, at most {each['most_ms']:.0f} ms")
    print(f"{'numbers, no hour kept':<32}{before:>15.0f} ms, once")
    wrong = missed(found, anew)
    bounds = f"{MOST_MS} ms or {MOST_BYTES // 1000} KB"
    print(f"{len(wrong)} of {len(found) + len(anew)} miss {bounds}: {', '.join(wrong) or 'none'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
