"""What statements about a caller's jobs since a moment have in common.

A UUIDv7 begins with its time, so "since" is a range of the index on a caller's jobs.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Double,
    Interval,
    Uuid,
    bindparam,
    func,
    literal,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY

from domain.ids import id_at
from domain.tables.job import jobs

#: Into what time is cut, from midnight UTC on.
UNITS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}

#: The percentiles that are told.
PERCENTILES = (0.5, 0.95, 0.99)


def since(caller_id: UUID, moment: datetime, unit: str = "hour") -> dict[str, Any]:
    """The parameters of these statements; `unit`: hour or day, into which time is cut.

    >>> from datetime import UTC
    >>> str(since(UUID(int=0), datetime(2026, 1, 1, tzinfo=UTC))["from"])
    '019b76da-a800-7000-8000-000000000000'
    """
    return {"caller_id": caller_id, "from": id_at(moment), "unit": UNITS[unit]}


#: One caller's jobs from an id on: what every statement here is about.
MINE = (
    jobs.c.caller_id == bindparam("caller_id", type_=Uuid),
    jobs.c.id >= bindparam("from", type_=Uuid),
)
#: The hour or day (UTC) in which a job was submitted.
UNIT = func.date_bin(
    bindparam("unit", type_=Interval),
    jobs.c.created_at,
    literal_column("timestamptz 'epoch'"),
    type_=DateTime(timezone=True),
)


def took(later: ColumnElement[Any], earlier: ColumnElement[Any]) -> ColumnElement[Any]:
    """Seconds between two moments."""
    return func.date_part("epoch", later - earlier, type_=Double)


def percentiles(seconds: ColumnElement[Any]) -> ColumnElement[Any]:
    """The percentiles of what is not null; null where nothing is."""
    shares = literal(list(PERCENTILES), type_=ARRAY(Double))
    return func.percentile_cont(shares).within_group(seconds)
