"""What jobs came to, in numbers: one caller's, over a time. Statements alone; pages draw them.

A UUIDv7 begins with its time, so "since" is a range of the index on a caller's jobs.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Executable, Uuid, bindparam, func, literal_column, select

from domain.tables import jobs


def since(caller_id: UUID, moment: datetime) -> dict[str, Any]:
    """The parameters of these statements.

    >>> from datetime import UTC
    >>> str(since(UUID(int=0), datetime(2026, 1, 1, tzinfo=UTC))["from"])
    '019b7681-6400-7000-8000-000000000000'
    """
    milliseconds = int(moment.timestamp() * 1000)
    first = UUID(int=(milliseconds << 80) | (0x7 << 76) | (0b10 << 62))
    return {"caller_id": caller_id, "from": first}


_mine = (
    jobs.c.caller_id == bindparam("caller_id", type_=Uuid),
    jobs.c.id >= bindparam("from", type_=Uuid),
)
_word = func.coalesce(jobs.c.verdict, jobs.c.state)
_hour = func.date_trunc("hour", jobs.c.created_at, type_=DateTime(timezone=True))
_day = func.date_trunc("day", jobs.c.created_at, type_=DateTime(timezone=True))


def _seconds(later: Any, earlier: Any) -> Any:
    return func.extract("epoch", later - earlier)


#: caller_id, from -> hour, word (verdict or state), runs.
BY_HOUR: Executable = (
    select(_hour.label("hour"), _word.label("word"), func.count().label("runs"))
    .where(*_mine)
    .group_by(literal_column("1"), literal_column("2"))
)
