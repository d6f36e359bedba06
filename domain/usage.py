"""What callers used, by UTC day: of jobs that are there, and of those that are deleted."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    Double,
    Executable,
    Numeric,
    Select,
    Uuid,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)

from domain.tables.attempt import attempts, model_calls
from domain.tables.caller import callers
from domain.tables.job import jobs
from domain.tables.usage import past_usage

#: What is summed up of a day, in the order of `past_usage`.
USED = ("jobs", "runs", "wall_s", "cpu_s", "calls", "input_tokens", "output_tokens", "cost_usd")


def day_of(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    """The UTC day of a moment."""
    return cast(func.timezone("UTC", moment), Date)


def used(of_job: Select[Any]) -> Select[Any]:
    """What jobs used, by `caller_id` and `day`, in the columns `USED`; `of_job`: their ids and `caller_id`.

    A job counts on the day it was submitted, its runs and questions to models on the days they ended.
    """
    those = of_job.subquery("those")
    zero = literal(0)

    def part(day: ColumnElement[Any], **sums: ColumnElement[Any]) -> Select[Any]:
        found = [sums.get(name, zero).label(name) for name in USED]
        return select(those.c.caller_id, day_of(day).label("day"), *found).select_from(those)

    submitted = part(jobs.c.created_at, jobs=literal(1)).join(jobs, jobs.c.id == those.c.id)
    ran = part(attempts.c.finished_at, runs=literal(1), wall_s=attempts.c.wall_s, cpu_s=attempts.c.cpu_s).join(
        attempts, attempts.c.job_id == those.c.id
    )
    asked = part(
        model_calls.c.created_at,
        calls=literal(1),
        input_tokens=model_calls.c.input_tokens,
        output_tokens=model_calls.c.output_tokens,
        cost_usd=model_calls.c.cost_usd,
    ).join(model_calls, model_calls.c.job_id == those.c.id)
    parts = union_all(submitted, ran, asked).subquery("parts")
    sums = [
        cast(func.coalesce(func.sum(parts.c[name]), 0), past_usage.c[name].type).label(name) for name in USED
    ]
    return select(parts.c.caller_id, parts.c.day, *sums).group_by(parts.c.caller_id, parts.c.day)


def _total(*by: ColumnElement[Any], of: Any) -> Select[Any]:
    """Sums of the columns `USED`."""
    sums = [cast(func.sum(of.c[name]), past_usage.c[name].type).label(name) for name in USED]
    return select(*by, *sums).group_by(*by)


def _usage() -> Executable:
    caller, since, until = (
        cast(bindparam("caller_id"), Uuid),
        cast(bindparam("since"), Date),
        cast(bindparam("until"), Date),
    )
    here = used(
        select(jobs.c.id, jobs.c.caller_id).where(
            or_(caller.is_(None), jobs.c.caller_id == caller),
            jobs.c.id >= cast(bindparam("since_id"), Uuid),
        )
    )
    gone = select(past_usage).where(or_(caller.is_(None), past_usage.c.caller_id == caller))
    both = union_all(here, gone).subquery("both")
    days = (
        _total(both.c.caller_id, both.c.day, of=both)
        .where(both.c.day >= since, both.c.day <= until)
        .subquery("days")
    )
    return (
        select(days, callers.c.name.label("caller"))
        .join(callers, callers.c.id == days.c.caller_id)
        .order_by(days.c.day.desc(), days.c.caller_id)
    )


#: caller_id (or null: of all), since and until (days), since_id (older than any job that used something then)
#: -> what each caller used on each of these days.
USAGE: Executable = _usage()

_today = func.date_trunc("day", func.now(), "UTC")


def _of_past(name: str, caller_id: ColumnElement[Any]) -> ColumnElement[Any]:
    """What deleted jobs of a caller used today."""
    found = select(past_usage.c[name]).where(
        past_usage.c.caller_id == caller_id, past_usage.c.day == day_of(func.now())
    )
    return func.coalesce(found.scalar_subquery(), cast(literal(0), past_usage.c[name].type))


_caller = bindparam("caller_id", type_=Uuid)

#: caller_id, since_id (older than any job that could have run today) -> seconds that programs ran today.
SECONDS_TODAY: Executable = (
    select(func.coalesce(func.sum(attempts.c.wall_s), cast(literal(0), Double)) + _of_past("wall_s", _caller))
    .join(jobs)
    .where(
        jobs.c.caller_id == _caller,
        jobs.c.id >= cast(bindparam("since_id"), Uuid),
        attempts.c.finished_at >= _today,
    )
)

#: caller_id -> the database's day and what the caller's calls of it cost.
SPENT_TODAY: Executable = (
    select(
        func.to_char(func.timezone("UTC", func.now()), "YYYY-MM-DD").label("day"),
        (
            func.coalesce(func.sum(model_calls.c.cost_usd), cast(literal(0), Numeric))
            + _of_past("cost_usd", _caller)
        ).label("spent_usd"),
    )
    .select_from(model_calls.join(jobs, jobs.c.id == model_calls.c.job_id))
    .where(jobs.c.caller_id == _caller, model_calls.c.created_at >= _today)
)
