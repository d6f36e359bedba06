"""Whether programs are taken up. A worker may live, report itself and hear nothing: that is not being ready."""

import asyncio
from collections.abc import Sequence
from typing import Any

from api.database import Database
from api.problems import Problem
from domain.metering import STUCK

_PATIENCE_S = 2.0


def idlers(live: Sequence[Any], after_s: float) -> list[Any]:
    """The workers with room that took nothing for so long; none where another one takes jobs.

    One that does not say when it last took a job (it is of an earlier version) counts as one that does.
    """
    ready = [each for each in live if each.ready and "sandbox" in each.facts.get("roles", ("sandbox",))]
    if any(each.facts.get("idle_s", 0.0) <= after_s for each in ready):
        return []
    return [each for each in ready if each.facts.get("busy", 0) < each.facts.get("jobs", 0)]


async def stalled(database: Database, live: Sequence[Any], after_s: float) -> str | None:
    """What keeps programs from being taken up, for a person; None where they are, or there is nothing to do.

    Only asked of the database where workers with room have been idle: a long queue before busy workers is no
    standstill, and a job waits by right whose caller runs as many as it may, or whose tier nobody offers.
    """
    idle = idlers(live, after_s)
    if not idle:
        return None
    runtimes = sorted({name for each in idle for name in each.facts.get("runtimes") or ()})
    try:
        async with asyncio.timeout(_PATIENCE_S):
            row = await database.one(STUCK, {"runtimes": runtimes, "after_s": after_s})
    except (Problem, TimeoutError):
        return None  # told as the database's own part
    if row is None:
        return None
    since = min(each.facts.get("idle_s", 0.0) for each in idle)
    return f"a program has waited for {row.age_s:.0f} s, and no worker took one for {since:.0f} s"
