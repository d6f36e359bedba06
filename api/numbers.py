"""What jobs came to, in numbers: one caller's, since a moment. Statements alone; pages draw them.

A UUIDv7 begins with its time, so "since" is a range of the index on a caller's jobs.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Double,
    Executable,
    Interval,
    Uuid,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from api.classes import class_of
from domain.ids import id_at
from domain.tables import attempts, jobs, model_calls

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
_word = func.coalesce(jobs.c.verdict, jobs.c.state)
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


#: -> unit, word (verdict or state), runs.
BY_TIME: Executable = (
    select(UNIT.label("unit"), _word.label("word"), func.count().label("runs"))
    .where(*MINE)
    .group_by(literal_column("1"), literal_column("2"))
)

_ended = jobs.c.state == literal_column("'finished'")
_total = case((_ended, class_of(took(jobs.c.finished_at, jobs.c.created_at))))
_waited = class_of(took(jobs.c.started_at, jobs.c.created_at))

#: Jobs counted in three ways at once. -> unit and word; unit and the class of the seconds from submission to
#: end; the class of the seconds until the first step: `jobs`, how many. What a row does not count by is null.
COUNTS: Executable = (
    select(
        UNIT.label("unit"),
        _word.label("word"),
        _total.label("total"),
        _waited.label("waited"),
        func.count().label("jobs"),
    )
    .where(*MINE)
    .group_by(
        func.grouping_sets(
            tuple_(literal_column("1"), literal_column("2")),
            tuple_(literal_column("1"), literal_column("3")),
            tuple_(literal_column("4")),
        )
    )
)

#: -> of starts of sandboxes and of runs, how many and percentiles of the seconds.
RUNS: Executable = (
    select(
        func.count(attempts.c.sandbox_start_s).label("starts"),
        percentiles(attempts.c.sandbox_start_s).label("start_s"),
        func.count(attempts.c.wall_s).label("runs"),
        percentiles(attempts.c.wall_s).label("run_s"),
    )
    .join(attempts, attempts.c.job_id == jobs.c.id)
    .where(*MINE)
)

#: -> answers of models, and percentiles of the seconds.
ANSWERS: Executable = (
    select(
        func.count(model_calls.c.latency_s).label("times"),
        percentiles(model_calls.c.latency_s).label("seconds"),
    )
    .join(model_calls, model_calls.c.job_id == jobs.c.id)
    .where(*MINE)
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
