"""What a caller may still submit: ceilings of limits, jobs that wait, seconds of execution in a day."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Text, Uuid, bindparam, func, select

from api.auth import Caller
from api.database import Database
from api.intake import Wanted
from api.problems import FieldError, Kind, Problem, invalid
from domain.limits import Limits, Profile
from domain.quotas import Quotas
from domain.states import LEASED_STATES, Priority, State
from domain.tables.job import jobs
from domain.usage import SECONDS_TODAY

#: Seconds between two looks at how many jobs wait.
LOOK_S = 1.0
#: What an answer says when a queue is full: come again after so many seconds.
FULL_RETRY_S = 5
#: Looks of 2 ms at whether the jobs that are being stored are.
_PATIENCE = 1000
#: For so long a day's sum of seconds is good enough.
SUM_S = 5.0

_queued = jobs.c.state == State.QUEUED.value

#: Each caller's jobs that wait, by priority, counted in an index.
WAITING: Executable = (
    select(jobs.c.caller_id, jobs.c.priority, func.count().label("waiting"))
    .where(_queued)
    .group_by(jobs.c.priority, jobs.c.caller_id)
)

#: caller_id, priority -> how many of its jobs wait.
WAITING_OF: Executable = (
    select(func.count())
    .select_from(jobs)
    .where(
        _queued,
        jobs.c.priority == bindparam("priority", type_=Text),
        jobs.c.next_state.in_([state.value for state in sorted(LEASED_STATES)]),  # all; as the index has it
        jobs.c.caller_id == bindparam("caller_id", type_=Uuid),
    )
)


def within_ceilings(quotas: Quotas, wanted: Wanted, profile: Profile) -> Wanted:
    """The same job with its limits under the caller's ceilings: what it left open is lowered.

    Raises:
        Problem: 422, it asks for more, or for what this caller may not have.
    """
    for name, allowed in quotas.allowed.items():
        asked = getattr(wanted.request, name, None)
        if name == "language":
            asked = wanted.language.name
        if asked not in (None, *allowed):
            raise invalid(FieldError(name, "is not allowed for this caller", list(allowed)))
    if not quotas.ceilings:
        return wanted
    lowered: dict[str, Any] = {}
    for limit in fields(Limits):
        most = quotas.ceilings.get(limit.name)
        value = getattr(wanted.limits, limit.name)  # None: no limit
        if most is None or (value is not None and value <= most):
            continue
        least = profile.choices[limit.name].least
        if getattr(wanted.request.limits, limit.name, None) is not None or most < least:
            allowed_range = f"from {least:g} to {most:.15g}" if most >= least else f"at most {most:.15g}"
            raise invalid(
                FieldError(f"limits.{limit.name}", f"must be {allowed_range} for this caller", allowed_range),
            )
        lowered[limit.name] = int(most) if value is None else type(value)(most)
    return replace(wanted, limits=replace(wanted.limits, **lowered)) if lowered else wanted


class Room:
    """How many jobs wait, as one process knows it: a look each second, and what it let in since.

    Only where this says that a queue is full is the database asked, by one request of a caller at a time,
    before anybody is refused. What other processes let in within the last second may pass a limit.

    Each priority is counted by itself: batch work that waits must not keep out who cannot.
    """

    def __init__(self, database: Database, *, per_caller: int, in_all: int) -> None:
        self._database = database
        self._per_caller = per_caller
        self._in_all = in_all
        self._waiting = {priority: _Waiting() for priority in Priority}

    async def look(self) -> None:
        """Look for ever; a task of its own."""
        while True:
            # What fails is logged where it is raised; the next look may be luckier.
            with suppress(Problem):
                await self.look_once()
            await asyncio.sleep(LOOK_S)

    async def look_once(self) -> None:
        """Count all jobs that wait."""
        before = {priority: Counter(line.since) for priority, line in self._waiting.items()}
        rows = await self._database.all(WAITING, {})
        for priority, line in self._waiting.items():
            line.seen = Counter({row.caller_id: row.waiting for row in rows if row.priority == priority})
            # What was let in while we looked may have been counted or not; counting it errs on the safe side.
            line.since -= before[priority]
            for caller_id in [caller_id for caller_id, lock in line.locks.items() if not lock.locked()]:
                del line.locks[caller_id]

    @asynccontextmanager
    async def entering(self, caller: Caller, priority: Priority, count: int = 1) -> AsyncIterator[None]:
        """Let `count` more jobs of a caller wait, which the block stores.

        Raises:
            Problem: 503 too many jobs of all callers wait, 429 too many of this one.
        """
        line = self._waiting[priority]
        total = line.seen.total() + line.since.total() + line.entering.total()
        if self._in_all and total + count > self._in_all:
            raise Problem(
                Kind.OVERLOADED,
                f"{total} jobs wait already{_and_more(count)}; nothing was stored, come again later",
                headers={"Retry-After": str(FULL_RETRY_S)},
            )
        limit = self._per_caller if caller.quotas.queued is None else caller.quotas.queued
        if limit and line.of(caller.id) + count > limit:
            async with line.locks.setdefault(caller.id, asyncio.Lock()):
                await self._look_closely(caller.id, priority, count, limit)
                line.entering[caller.id] += count
        else:
            line.entering[caller.id] += count
        try:
            yield
            line.since[caller.id] += count
        finally:
            line.entering[caller.id] -= count

    async def _look_closely(self, caller_id: UUID, priority: Priority, count: int, limit: int) -> None:
        line = self._waiting[priority]
        for _ in range(_PATIENCE):  # until those that are being stored are
            if not line.entering[caller_id]:
                break
            await asyncio.sleep(0.002)
        values = {"caller_id": caller_id, "priority": priority.value}
        row = await self._database.one(WAITING_OF, values)
        line.seen[caller_id] = int(row[0]) if row is not None else 0
        line.since[caller_id] = 0
        known = line.seen[caller_id] + line.entering[caller_id]
        if known + count > limit:
            raise Problem(
                Kind.QUOTA_EXCEEDED,
                f"{known} jobs of this caller wait already with the priority {priority}{_and_more(count)}, "
                f"and at most {limit} may",
                errors=[FieldError("(queued jobs)", "are too many", f"at most {limit}")],
                headers={"Retry-After": str(FULL_RETRY_S)},
            )


@dataclass(slots=True)
class _Waiting:
    """Jobs of one priority, by caller: seen at the last look, let in since, and being stored now."""

    seen: Counter[UUID] = field(default_factory=Counter)
    since: Counter[UUID] = field(default_factory=Counter)
    entering: Counter[UUID] = field(default_factory=Counter)
    locks: dict[UUID, asyncio.Lock] = field(default_factory=dict)

    def of(self, caller_id: UUID) -> int:
        """All of one caller."""
        return self.seen[caller_id] + self.since[caller_id] + self.entering[caller_id]


def _and_more(count: int) -> str:
    return f", {count} more were sent" if count > 1 else ""


class Seconds:
    """Seconds of execution of the callers that have a limit for a day."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sums: dict[UUID, tuple[float, float]] = {}

    async def check(self, caller: Caller) -> None:
        """Let a job of the caller in.

        Jobs that wait or run are counted once they have ended, so the last ones of a day may pass the limit.

        Raises:
            Problem: 429, the day's seconds are used up.
        """
        limit = caller.quotas.execution_s_per_day
        if limit is None:
            return
        at, used = self._sums.get(caller.id, (0.0, 0.0))
        if monotonic() - at > SUM_S:
            row = await self._database.one(SECONDS_TODAY, {"caller_id": caller.id, "since_id": _since_id()})
            used = float(row[0]) if row is not None else 0.0
            if len(self._sums) > 10_000:
                self._sums.clear()
            self._sums[caller.id] = (monotonic(), used)
        if used >= limit:
            raise Problem(
                Kind.QUOTA_EXCEEDED,
                f"programs of this caller ran {used:.1f} s today and may run {limit:g} s; "
                "the day ends at 00:00 UTC",
                errors=[FieldError("(execution seconds)", "are used up", f"at most {limit:g} s a day")],
                headers={"Retry-After": str(_until_midnight())},
            )


def _since_id() -> UUID:
    """The least UUIDv7 of a week ago."""
    week_ago = datetime.now(UTC) - timedelta(days=7)
    return UUID(int=int(week_ago.timestamp() * 1000) << 80)


def _until_midnight() -> int:
    now = datetime.now(UTC)
    return math.ceil((24 * 3600) - (now.hour * 3600 + now.minute * 60 + now.second))
