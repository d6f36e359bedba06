"""Figures of a soak: what every process holds over time, whether that stays flat, and what the books say."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from sqlalchemy.exc import DBAPIError

from tests.hostile.invariants import footprint
from tests.soak.load import Ledger
from tests.soak.stack import Stack

#: The last third may be so much above the middle one: caches and pools still grow a little.
GROWTH = 1.25
#: And by so much however small it is: counts jitter with each restart.
SLACK = {"memory_mb": 40.0, "descriptors": 40.0, "connections": 16.0, "containers": 12.0}


@dataclass(frozen=True)
class Sample:
    """One look. Of several processes the largest: a sum would fall with each that is being restarted."""

    at_s: float
    memory_mb: float
    descriptors: int
    connections: int
    containers: int
    unfinished: int


def sample(stack: Stack, began: float) -> Sample | None:
    """Look; None while something that must be asked is away."""
    pids = [place.process.pid for place in stack.places if place.alive]
    if stack.server is not None and stack.server.process.poll() is None:
        pids.append(stack.server.process.pid)
    try:
        held = [footprint(pid) for pid in pids]
        (row,) = stack.sql("SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend'")
        return Sample(
            round(time.monotonic() - began, 1),
            round(max(each.memory_mb for each in held), 1),
            max(each.descriptors for each in held),
            int(row.n),
            stack.containers(),
            stack.table.unfinished(),
        )
    except (OSError, DBAPIError, AssertionError, ValueError):
        return None  # it ended while we looked


def thirds(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of each third."""
    third = max(1, len(values) // 3)
    return fmean(values[:third]), fmean(values[third : 2 * third] or values), fmean(values[-third:])


def flat(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """For each thing that must not grow: the mean of each third, and whether it is flat."""
    found: dict[str, dict[str, Any]] = {}
    for name, slack in SLACK.items():
        first, middle, last = thirds([float(getattr(each, name)) for each in samples])
        found[name] = {
            "thirds": [round(first, 1), round(middle, 1), round(last, 1)],
            "flat": last <= max(middle * GROWTH, middle + slack),
        }
    return found


def books(stack: Stack, ledger: Ledger) -> dict[str, Any]:
    """What the database says of the jobs that were accepted."""
    rows = stack.sql(
        "SELECT jobs.id, jobs.state, jobs.reason, jobs.task IS NOT NULL AS task, "
        "count(attempts.number) FILTER (WHERE attempts.verdict IS NOT NULL) AS results, "
        "count(DISTINCT attempts.round) FILTER (WHERE attempts.verdict IS NOT NULL) AS rounds, "
        "count(attempts.number) FILTER (WHERE attempts.failure LIKE 'worker_lost%') AS lost_attempts "
        "FROM jobs LEFT JOIN attempts ON attempts.job_id = jobs.id GROUP BY jobs.id"
    )
    known = {row.id: row for row in rows}
    mine = [known[job_id] for job_id in ledger.accepted if job_id in known]
    doubled = [row for row in mine if row.results > (row.rounds if row.task else 1)]
    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    return {
        "jobs": len(rows),
        "accepted": len(ledger.accepted),
        "missing": len(ledger.accepted) - len(mine),
        "unfinished": sum(row.state not in ("finished", "cancelled", "broken") for row in rows),
        "doubled": len(doubled),
        "broken": [f"{row.id}: {row.reason}" for row in rows if row.state == "broken"],
        "states": states,
        "attempts_lost_with_a_worker": sum(row.lost_attempts for row in rows),
    }


def as_dicts(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(each) for each in samples]
