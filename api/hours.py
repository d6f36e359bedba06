"""What a caller's jobs came to, hour by hour (UTC): sums that are kept of hours that are over, the rest anew.

Kept is an hour all of whose jobs have ended: nothing of them changes any more, except that a job is deleted, a
call that was under way when its job was cancelled is recorded late, or a wrong clock gives a job an old id.
Triggers (migration 0012) forget the hour then. They and whoever keeps an hour take the same lock, so that none
misses what the other does.

An hour is that of the job's id, a UUIDv7, so that it is a range of the index on a caller's jobs.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from api.database import Database, take_time
from api.hour_statements import (
    BUSY,
    CALLS,
    FORGET_OLD,
    INSERT,
    JOBS,
    KEPT,
    KEPT_WORDS,
    LOCK,
    MAY_KEEP,
    RUNS,
    UNKEPT,
    WHETHER_KEPT,
    WORDS,
)
from api.problems import Problem
from api.sums import Asked, Stage, Sums
from domain.ids import id_at
from domain.states import FINAL_STATES, State

HOUR = timedelta(hours=1)
#: For so long hours are kept: a little longer than any page looks back.
KEPT_FOR = timedelta(days=32)
#: Seconds between two looks for hours that are over.
LOOK_S = 60
#: How many hours such a look goes back; older ones are kept once somebody asked for them.
_LOOK_BACK = 3
#: Hours that may wait for being kept.
_MOST_WANTED = 10_000

_UNFINISHED = frozenset(state.value for state in State if state not in FINAL_STATES)
_LAST = UUID(int=2**128 - 1)

#: Of each hour how many jobs have which verdict or state.
Words = dict[datetime, Counter[str]]


def hour_of(moment: datetime) -> datetime:
    """The begin of the hour (UTC) that a moment is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


class Hours:
    """Reads sums by the hour, and keeps them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted: set[tuple[UUID, datetime]] = set()
        self._asked = asyncio.Event()

    async def read(self, caller_id: UUID, first: datetime) -> dict[datetime, Sums]:
        """Sums of each hour from `first` on in which the caller submitted jobs.

        Raises:
            Problem: 503, the database does not answer.
        """
        now = hour_of(datetime.now(UTC))

        async def work(connection: AsyncConnection) -> tuple[dict[datetime, Any], dict[datetime, Sums]]:
            await take_time(connection)
            rows = await connection.execute(KEPT, {"caller_id": caller_id, "first": first})
            kept = {row.hour: row.sums for row in rows}
            missing = await _missing(connection, caller_id, first, now, kept)
            return kept, await _sums(connection, caller_id, missing, now)

        kept, found = await self._database.together(work)
        self._want(caller_id, (hour for hour, sums in found.items() if hour < now and _ended(sums.words)))
        # Months of busy hours take a while, in which others want to be served.
        return found | await asyncio.to_thread(_of_json, kept)

    async def words(self, caller_id: UUID, first: datetime) -> Words:
        """The same, but only how many jobs have which verdict or state.

        Raises:
            Problem: 503, the database does not answer.
        """
        now = hour_of(datetime.now(UTC))

        async def work(connection: AsyncConnection) -> tuple[Words, Words]:
            await take_time(connection)
            rows = await connection.execute(KEPT_WORDS, {"caller_id": caller_id, "first": first})
            kept = {row.hour: Counter(row.words) for row in rows}
            found: Words = {}
            if missing := await _missing(connection, caller_id, first, now, kept):
                values = {"caller_id": caller_id, **_parts(missing, now)}
                for row in await connection.execute(WORDS, values):
                    found.setdefault(row.hour, Counter())[row.word] = row.times
            return kept, found

        kept, found = await self._database.together(work)
        self._want(caller_id, (hour for hour, words in found.items() if hour < now and _ended(words)))
        return found | kept

    def _want(self, caller_id: UUID, hours: Iterable[datetime]) -> None:
        """Have hours kept soon."""
        for hour in hours:
            if len(self._wanted) < _MOST_WANTED:
                self._wanted.add((caller_id, hour))
                self._asked.set()

    async def run(self) -> None:
        """Keep hours that are over, for ever; a task of its own."""
        cleared = None
        while True:
            self._asked.clear()
            now = hour_of(datetime.now(UTC))
            # What fails is logged where it is raised; the next look may be luckier.
            with suppress(Problem):
                await self.keep_all()
                if now != cleared:
                    await self._database.run(FORGET_OLD, {"before": now - KEPT_FOR})
                    cleared = now
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._asked.wait()

    async def keep_all(self) -> None:
        """Keep the last hours of all callers, and those that somebody asked for.

        Raises:
            Problem: 503, the database does not answer.
        """
        now = hour_of(datetime.now(UTC))
        hours = _hours(now - _LOOK_BACK * HOUR, now - HOUR)
        rows = await self._database.slow(UNKEPT, _parts(hours, now))
        self._wanted.update((row.caller_id, row.hour) for row in rows)
        while self._wanted:
            await self.keep(*self._wanted.pop())

    async def keep(self, caller_id: UUID, hour: datetime) -> bool:
        """Keep an hour's sums, if it is over, all its jobs have ended, and they are not kept. Whether it did.

        Raises:
            Problem: 503, the database does not answer.
        """
        values = {"caller_id": caller_id, "hour": hour}

        async def work(connection: AsyncConnection) -> bool:
            await take_time(connection)
            # The caller first: who deletes one has its row, and then waits for our lock.
            if not (await connection.execute(MAY_KEEP, values)).all():
                return False
            await connection.execute(LOCK, values)
            if (await connection.execute(WHETHER_KEPT, values)).all():
                return False
            sums = (await _sums(connection, caller_id, [hour])).get(hour)
            if sums is None or not _ended(sums.words):
                return False
            await connection.execute(INSERT, {**values, "sums": sums.as_json()})
            return True

        return await self._database.together(work)


def _ended(words: Counter[str]) -> bool:
    """Whether all jobs have that have these verdicts or states."""
    return not _UNFINISHED & words.keys()


def _hours(first: datetime, last: datetime) -> list[datetime]:
    return [first + number * HOUR for number in range((last - first) // HOUR + 1)]


def _parts(hours: Sequence[datetime], last: datetime | None) -> dict[str, Any]:
    """The parameters for hours; `last` is not over, and has whatever came later, by whichever clock."""
    ends = [_LAST if hour == last else id_at(hour + HOUR) for hour in hours]
    return {"hours": list(hours), "froms": [id_at(hour) for hour in hours], "tos": ends}


async def _missing(
    connection: AsyncConnection, caller_id: UUID, first: datetime, last: datetime, kept: Mapping[datetime, Any]
) -> list[datetime]:
    """The hours in which there are jobs, but for those that are kept."""
    hours = [hour for hour in _hours(first, last) if hour not in kept]
    rows = await connection.execute(BUSY, {"caller_id": caller_id, **_parts(hours, last)})
    return [row.hour for row in rows]


async def _sums(
    connection: AsyncConnection, caller_id: UUID, hours: Sequence[datetime], last: datetime | None = None
) -> dict[datetime, Sums]:
    """Sums of those of these hours in which there are jobs, from the rows themselves."""
    if not hours:
        return {}
    values = {"caller_id": caller_id, **_parts(hours, last)}
    found: dict[datetime, Sums] = {}
    for row in await connection.execute(JOBS, values):
        sums = found[row.hour] = Sums(words=Counter(dict(zip(row.word, row.word_times, strict=True))))
        _add_times(sums, row, "total", "waited")
    for row in await connection.execute(RUNS, values):
        _add_times(found.setdefault(row.hour, Sums()), row, "start", "run")
    for row in await connection.execute(CALLS, values):
        sums = found.setdefault(row.hour, Sums())
        if row.model is None:
            _add_times(sums, row, "answer")
        else:
            tokens = int(row.input_tokens), int(row.output_tokens)
            sums.models[row.model] = Asked(int(row.times), row.cost, *tokens)
    return found


def _add_times(sums: Sums, row: Row[Any], *stages: Stage) -> None:
    for stage in stages:
        if (classes := getattr(row, stage)) is not None:
            sums.times[stage] = Counter(dict(zip(classes, getattr(row, f"{stage}_times"), strict=True)))


def _of_json(kept: dict[datetime, Any]) -> dict[datetime, Sums]:
    return {hour: Sums.of_json(sums) for hour, sums in kept.items()}
