"""The statements of `api.hours`: rows counted by the hour, and what is kept of that.

Hours are parameters: `hours`, and for each the ids `froms` (the least) and `tos` (the first that is not in it).
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Executable,
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
from domain.tables import attempts, callers, hourly_sums, jobs, model_calls

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


def _sets(*sets: tuple[str, ...]) -> ColumnElement[Any]:
    """Group in several ways at once, by the numbers of columns."""
    return func.grouping_sets(*(tuple_(*(literal_column(number) for number in each)) for each in sets))


_word = func.coalesce(jobs.c.verdict, jobs.c.state).label("word")
_ended = jobs.c.state == literal_column("'finished'")

#: -> hour and word (verdict or state); hour and the class of the seconds from submission to end; hour and the
#: class of the seconds until the first step: how many. What a row does not count by is null.
JOBS: Executable = (
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
)

#: -> hour and word: how many.
WORDS: Executable = (
    select(_part.c.hour, _word, func.count().label("times"))
    .select_from(_of_part)
    .where(*_within)
    .group_by(literal_column("1"), literal_column("2"))
)

#: -> hour and the class of the seconds for which the start of a sandbox was waited for; hour and the class of
#: the seconds of a run: how many.
RUNS: Executable = (
    select(
        _part.c.hour,
        class_of(attempts.c.sandbox_start_s).label("start"),
        class_of(attempts.c.wall_s).label("run"),
        func.count().label("times"),
    )
    .select_from(_of_part.join(attempts, attempts.c.job_id == jobs.c.id))
    .where(*_within)
    .group_by(_sets(("1", "2"), ("1", "3")))
)

#: -> hour and model, with calls, cost (null where no price is known) and tokens; hour and the class of the
#: seconds of an answer: how many.
CALLS: Executable = (
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
)

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
