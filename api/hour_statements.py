"""The statements of `api.hours`: rows counted by the hour, and what is kept of that.

Hours are parameters: `hours`, and for each the ids `froms` (the least) and `tos` (the first that is not in it).
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Executable,
    Subquery,
    Uuid,
    bindparam,
    case,
    column,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert

from api.classes import class_of
from api.numbers import took
from domain.tables.attempt import attempts, model_calls
from domain.tables.caller import callers
from domain.tables.job import jobs
from domain.tables.usage import hourly_sums

_hour = bindparam("hour", type_=DateTime(timezone=True))
_caller = bindparam("caller_id", type_=Uuid)
_part = (
    func.unnest(
        bindparam("hours", type_=ARRAY(DateTime(timezone=True))),
        bindparam("froms", type_=ARRAY(Uuid)),
        bindparam("tos", type_=ARRAY(Uuid)),
    )
    .table_valued(column("hour", DateTime(timezone=True)), column("from_id", Uuid), column("to_id", Uuid))
    .render_derived(name="part")
)
_within = (jobs.c.caller_id == _caller, jobs.c.id >= _part.c.from_id, jobs.c.id < _part.c.to_id)
_of_part = _part.join(jobs, true())

_any = select(jobs.c.id).where(*_within).limit(literal_column("1")).lateral("any_job")

#: -> those of the hours in which there are jobs. The others are asked for these alone: the planner takes each
#: to be a good part of all jobs, and for many hours it would read them all.
BUSY: Executable = select(_part.c.hour).select_from(_part.join(_any, true()))


def _counted(found: Subquery, *names: str) -> list[ColumnElement[Any]]:
    """Of each of these columns its values, and how often each is there, as two arrays of the same order."""
    columns: list[ColumnElement[Any]] = []
    for name in names:
        there = found.c[name].is_not(None)
        columns += [
            func.array_agg(found.c[name]).filter(there).label(name),
            func.array_agg(found.c.times).filter(there).label(f"{name}_times"),
        ]
    return columns


def _sets(*sets: tuple[str, ...]) -> ColumnElement[Any]:
    """Group in several ways at once, by the numbers of columns."""
    return func.grouping_sets(*(tuple_(*(literal_column(number) for number in each)) for each in sets))


_word = func.coalesce(jobs.c.verdict, jobs.c.state).label("word")
_ended = jobs.c.state == literal_column("'finished'")

_jobs = (
    select(
        _part.c.hour,
        _word,
        case((_ended, class_of(took(jobs.c.finished_at, jobs.c.created_at)))).label("total"),
        class_of(took(jobs.c.started_at, jobs.c.created_at)).label("waited"),
        func.count().label("times"),
    )
    .select_from(_of_part)
    .where(*_within)
    .group_by(_sets(("1", "2"), ("1", "3"), ("1", "4")))
    .subquery("counted")
)

#: -> hour, and `word` (verdicts or states), `total` and `waited` (classes of the seconds from submission to end
#: and until the first step), each with `…_times`: how many jobs have which. Null where none has any.
JOBS: Executable = select(_jobs.c.hour, *_counted(_jobs, "word", "total", "waited")).group_by(_jobs.c.hour)

#: -> hour and word: how many.
WORDS: Executable = (
    select(_part.c.hour, _word, func.count().label("times"))
    .select_from(_of_part)
    .where(*_within)
    .group_by(literal_column("1"), literal_column("2"))
)

_runs = (
    select(
        _part.c.hour,
        class_of(attempts.c.sandbox_start_s).label("start"),
        class_of(attempts.c.wall_s).label("run"),
        func.count().label("times"),
    )
    .select_from(_of_part.join(attempts, attempts.c.job_id == jobs.c.id))
    .where(*_within)
    .group_by(_sets(("1", "2"), ("1", "3")))
    .subquery("counted")
)

#: -> the same of attempts: `start` and `run`, classes of the seconds for which a sandbox was waited for, and of
#: the run.
RUNS: Executable = select(_runs.c.hour, *_counted(_runs, "start", "run")).group_by(_runs.c.hour)

_calls = (
    select(
        _part.c.hour,
        model_calls.c.model,
        class_of(model_calls.c.latency_s).label("answer"),
        func.count().label("times"),
        func.sum(model_calls.c.cost_usd).label("cost"),
        func.coalesce(func.sum(model_calls.c.input_tokens), 0).label("input_tokens"),
        func.coalesce(func.sum(model_calls.c.output_tokens), 0).label("output_tokens"),
    )
    .select_from(_of_part.join(model_calls, model_calls.c.job_id == jobs.c.id))
    .where(*_within)
    .group_by(_sets(("1", "2"), ("1", "3")))
    .subquery("counted")
)
_of_model = ("times", "cost", "input_tokens", "output_tokens")

#: -> hour and `model`, with calls (`times`), cost (null where no price is known) and tokens; and once for each
#: hour, without a model, `answer` as above: classes of the seconds of an answer.
CALLS: Executable = select(
    _calls.c.hour,
    _calls.c.model,
    *(func.sum(_calls.c[name]).label(name) for name in _of_model),
    *_counted(_calls, "answer"),
).group_by(_calls.c.hour, _calls.c.model)

_kept_since = (
    hourly_sums.c.caller_id == _caller,
    hourly_sums.c.hour >= bindparam("first", type_=DateTime(timezone=True)),
)

#: caller_id, first -> hours from `first` on whose sums are kept, and these.
KEPT: Executable = select(hourly_sums.c.hour, hourly_sums.c.sums).where(*_kept_since)

#: caller_id, first -> the same, of the sums only the words.
KEPT_WORDS: Executable = select(hourly_sums.c.hour, hourly_sums.c.sums["words"].label("words")).where(
    *_kept_since
)

# --- keeping --------------------------------------------------------------------------------------------

_of_unkept = (jobs.c.caller_id == callers.c.id, jobs.c.id >= _part.c.from_id, jobs.c.id < _part.c.to_id)

#: Hours -> those of them, with the caller, that are not kept and have jobs, all of which have ended.
UNKEPT: Executable = (
    select(callers.c.id.label("caller_id"), _part.c.hour)
    .select_from(callers.join(_part, true()))
    .where(
        ~exists().where(hourly_sums.c.caller_id == callers.c.id, hourly_sums.c.hour == _part.c.hour),
        exists().where(*_of_unkept),
        ~exists().where(*_of_unkept, jobs.c.finished_at.is_(None)),
    )
)

#: So long after its end an hour is kept at the soonest. Triggers look at jobs that are five minutes old; no
#: transaction is as long as what lies between.
_SETTLES = "10 minutes"

#: caller_id, hour -> the caller, who then stays for the transaction, if the hour may be kept.
MAY_KEEP: Executable = (
    select(callers.c.id)
    .where(callers.c.id == _caller, _hour <= func.now() - text(f"interval '1 hour {_SETTLES}'"))
    .with_for_update(read=True, key_share=True)
)

#: caller_id, hour: wait for those who change what is in the hour, and keep others waiting.
LOCK: Executable = select(func.hourly_sums_lock(_caller, _hour, literal_column("true")))

#: caller_id, hour -> a row, if they are kept.
WHETHER_KEPT: Executable = select(hourly_sums.c.hour).where(
    hourly_sums.c.caller_id == _caller, hourly_sums.c.hour == _hour
)

#: caller_id, hour, sums.
INSERT: Executable = insert(hourly_sums).on_conflict_do_nothing()

#: before: forget all earlier hours.
FORGET_OLD: Executable = delete(hourly_sums).where(
    hourly_sums.c.hour < bindparam("before", type_=DateTime(timezone=True))
)
