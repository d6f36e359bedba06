"""What jobs came to, in numbers: one caller's, since a moment. Statements alone; pages draw them.

A UUIDv7 begins with its time, so "since" is a range of the index on a caller's jobs.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Double,
    Executable,
    Text,
    Uuid,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from domain.ids import id_at
from domain.tables import attempts, jobs, model_calls

#: The percentiles that are told.
PERCENTILES = (0.5, 0.95, 0.99)


def since(caller_id: UUID, moment: datetime, unit: str = "hour") -> dict[str, Any]:
    """The parameters of these statements; `unit`: hour or day, into which time is cut.

    >>> from datetime import UTC
    >>> str(since(UUID(int=0), datetime(2026, 1, 1, tzinfo=UTC))["from"])
    '019b76da-a800-7000-8000-000000000000'
    """
    return {"caller_id": caller_id, "from": id_at(moment), "unit": unit}


#: One caller's jobs from an id on: what every statement here is about.
MINE = (
    jobs.c.caller_id == bindparam("caller_id", type_=Uuid),
    jobs.c.id >= bindparam("from", type_=Uuid),
)
_word = func.coalesce(jobs.c.verdict, jobs.c.state)
#: The hour or day in which a job was submitted.
UNIT = func.date_trunc(bindparam("unit", type_=Text), jobs.c.created_at, type_=DateTime(timezone=True))


def took(later: ColumnElement[Any], earlier: ColumnElement[Any]) -> ColumnElement[Any]:
    """Seconds between two moments."""
    return func.extract("epoch", later - earlier).cast(Double)


def percentiles(seconds: ColumnElement[Any]) -> ColumnElement[Any]:
    """The percentiles of what is not null; null where nothing is."""
    shares = literal(list(PERCENTILES), type_=ARRAY(Double))
    return func.percentile_cont(shares).within_group(seconds)


#: -> unit, word (verdict or state), runs.
BY_TIME: Executable = (
    select(UNIT.label("unit"), _word.label("word"), func.count().label("runs"))
    .where(*MINE)
    .group_by(literal_column("1"), literal_column("2"))
)

#: -> unit, percentiles of the seconds from submission to end.
LATENCY: Executable = (
    select(UNIT.label("unit"), percentiles(took(jobs.c.finished_at, jobs.c.created_at)).label("seconds"))
    .where(*MINE, jobs.c.state == "finished")
    .group_by(literal_column("1"))
    .order_by(literal_column("1"))
)


def _stage(name: str, seconds: ColumnElement[Any]) -> Any:
    return select(
        literal_column(f"'{name}'", Text).label("stage"),
        func.count(seconds).label("times"),
        percentiles(seconds).label("seconds"),
    ).where(*MINE)


#: -> stage, times, percentiles of seconds: the whole, and where it went.
STAGES: Executable = union_all(
    _stage("whole", took(jobs.c.finished_at, jobs.c.created_at)).where(jobs.c.state == "finished"),
    _stage("waiting for the first step", took(jobs.c.started_at, jobs.c.created_at)),
    _stage("model answer", model_calls.c.latency_s).join(model_calls, model_calls.c.job_id == jobs.c.id),
    _stage("sandbox start", attempts.c.sandbox_start_s).join(attempts, attempts.c.job_id == jobs.c.id),
    _stage("run", attempts.c.wall_s).join(attempts, attempts.c.job_id == jobs.c.id),
)

#: -> unit, model, calls, cost (null where no price is known), input and output tokens.
COST: Executable = (
    select(
        UNIT.label("unit"),
        model_calls.c.model,
        func.count().label("calls"),
        func.sum(model_calls.c.cost_usd).label("cost"),
        func.sum(model_calls.c.input_tokens).label("input_tokens"),
        func.sum(model_calls.c.output_tokens).label("output_tokens"),
    )
    .join(model_calls, model_calls.c.job_id == jobs.c.id)
    .where(*MINE)
    .group_by(literal_column("1"), model_calls.c.model)
    .order_by(literal_column("1"), model_calls.c.model)
)
