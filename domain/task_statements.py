"""The statements of tasks: what a model was asked and answered, the moves between rounds, the caches.

As in `domain.leasing`, what moves a job names its lease token. A call is recorded whether or not the lease
still holds: it was paid for.
"""

from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Double,
    Executable,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as pg_insert

from domain.finishing import end_attempt
from domain.leasing import MINE, NO_LEASE
from domain.states import Priority, State
from domain.tables.attempt import artifacts, attempts, model_calls
from domain.tables.cache import execution_cache, response_cache
from domain.tables.job import jobs


def _json(name: str) -> Any:
    return cast(bindparam(name, type_=Text), JSONB)


# --- what calls cost ----------------------------------------------------------------------------------

_priced = or_(model_calls.c.cost_usd.is_not(None), model_calls.c.answer.is_(None))
_cost = func.coalesce(func.sum(model_calls.c.cost_usd), text("0"))
_complete = func.coalesce(func.bool_and(_priced), True)
_scripted = func.coalesce(func.bool_or(model_calls.c.scripted), False)
_this_cost = func.coalesce(cast(bindparam("c_cost_usd", type_=Numeric), Numeric), 0)

#: job_id, round (0: all) -> what calls cost, whether every price was known, whether a scripted model answered.
COST: Executable = select(
    _cost.label("cost_usd"), _complete.label("complete"), _scripted.label("scripted")
).where(
    model_calls.c.job_id == bindparam("b_job_id", type_=Uuid),
    or_(model_calls.c.round == bindparam("b_round", type_=Integer), bindparam("b_round", type_=Integer) == 0),
)


def _draft(*, this_call: bool = False) -> ColumnElement[Any]:
    """The draft and what its round's calls cost, as `domain.tasks.Draft` has it; with one call more."""
    cost: ColumnElement[Any] = _cost
    complete: ColumnElement[bool] = _complete
    scripted: ColumnElement[bool] = _scripted
    if this_call:
        cost = cost + _this_cost
        complete = and_(complete, bindparam("b_priced", type_=Boolean))
        scripted = or_(scripted, bindparam("c_scripted", type_=Boolean))
    known = case((complete, cast(cost, Text)))
    costs = func.jsonb_build_object("cost_usd", known, "scripted", scripted, type_=JSONB)
    round_ = bindparam("b_round", type_=Integer)
    of_round = select(costs).where(model_calls.c.job_id == jobs.c.id, model_calls.c.round == round_)
    draft: ColumnElement[Any] = _json("b_draft").op("||")(of_round.scalar_subquery())
    return draft


# --- moves --------------------------------------------------------------------------------------------

_TO_SANDBOX: dict[str, Any] = {
    "state": State.QUEUED.value,
    "next_state": State.RUNNING.value,
    "claims": 0,
    "round": bindparam("b_round", type_=Integer),
    "rung_at": func.now(),
    **NO_LEASE,
}

#: id, token, round, draft (but for its cost) -> a program is there: it waits for a sandbox.
HAND_OVER: Executable = update(jobs).where(MINE).values(draft=_draft(), **_TO_SANDBOX).returning(jobs.c.id)

#: id, token, round, profile, limits; a_… of the attempt -> it failed, and a model shall try again.
NEXT_ROUND: Executable = end_attempt(
    State.QUEUED,
    next_state=State.GENERATING.value,
    claims=0,
    round=bindparam("b_round", type_=Integer),
    draft=null(),
    profile=bindparam("b_profile", type_=Text),
    limits=_json("b_limits"),
)

#: id, token, round, verdict, reason, outcome, model; a_… of the attempt -> the task has ended.
FINISH_TASK: Executable = end_attempt(
    State.FINISHED,
    verdict=bindparam("b_verdict", type_=Text),
    reason=bindparam("b_reason", type_=Text),
    outcome=bindparam("b_outcome", type_=Text),
    model=bindparam("b_model", type_=Text),
    round=bindparam("b_round", type_=Integer),
)

#: id, token, pause_s, reason -> no model can be had now: the job waits in the batch queue, nothing was tried.
POSTPONE: Executable = (
    update(jobs)
    .where(MINE)
    .values(
        state=State.QUEUED.value,
        priority=case((bindparam("b_batch", type_=Boolean), Priority.BATCH.value), else_=jobs.c.priority),
        reason=bindparam("b_reason", type_=Text),
        claims=jobs.c.claims - 1,
        rung_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("b_pause_s", type_=Double)),
        **NO_LEASE,
    )
    .returning(jobs.c.id)
)

# --- calls of models ----------------------------------------------------------------------------------

CALL_FIELDS = (
    "id",
    "job_id",
    "round",
    "gateway",
    "model",
    "model_version",
    "request_id",
    "prompt",
    "parameters",
    "answer",
    "finish",
    "failure",
    "detail",
    "status",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "estimated",
    "price",
    "cost_usd",
    "latency_s",
    "first_byte_s",
    "cache_hit",
    "scripted",
)


def _call_value(name: str) -> ColumnElement[Any]:
    column = model_calls.c[name]
    return _json(f"c_{name}") if isinstance(column.type, JSONB) else bindparam(f"c_{name}", type_=column.type)


def _with_call(new: Any) -> dict[str, Any]:
    """A job's columns with a call added; `new`: whether it was not added before, 1 or 0."""
    return {
        "cost_usd": jobs.c.cost_usd + _this_cost * new,
        "cost_complete": and_(jobs.c.cost_complete, bindparam("b_priced", type_=Boolean)),
        "scripted": or_(jobs.c.scripted, bindparam("c_scripted", type_=Boolean)),
    }


def _record_call() -> Executable:
    """Record a call and add its cost to the job, in one statement."""
    values = {name: _call_value(name) for name in CALL_FIELDS}
    # Repeating it after a lost connection neither fails nor counts the cost twice.
    stored = pg_insert(model_calls).values(values).on_conflict_do_nothing()
    recorded = stored.returning(model_calls.c.id).cte("recorded")
    new = select(func.count()).select_from(recorded).scalar_subquery()
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("c_job_id", type_=Uuid))
        .values(**_with_call(new))
        .returning((jobs.c.lease_token == bindparam("b_token", type_=Uuid)).label("mine"))
    )


def _record_and_hand_over() -> Executable:
    """Both at once. Without the lease nothing happens."""
    values = {**_TO_SANDBOX, **_with_call(1), "draft": _draft(this_call=True)}
    moved = update(jobs).where(MINE).values(**values).returning(jobs.c.id).cte("moved")
    given = [cast(_call_value(name), model_calls.c[name].type).label(name) for name in CALL_FIELDS]
    return (
        insert(model_calls)
        .from_select(CALL_FIELDS, select(*given).select_from(moved))
        .returning(model_calls.c.job_id)
    )


#: c_… of the call, priced, token -> recorded; `mine` says whether the lease still holds.
RECORD_CALL: Executable = _record_call()

#: c_… of the call, priced; id, token, round, draft (but for its cost) -> recorded, and the job waits for a
#: sandbox with the program of this answer; no row, and nothing recorded, if the lease was lost.
RECORD_AND_HAND_OVER: Executable = _record_and_hand_over()

#: job_id -> the calls that gave an answer, in order.
ANSWERS: Executable = (
    select(
        model_calls.c.round,
        model_calls.c.answer,
        model_calls.c.finish,
        model_calls.c.model,
        model_calls.c.gateway,
        model_calls.c.cost_usd,
        model_calls.c.scripted,
        model_calls.c.parameters,
    )
    .where(model_calls.c.job_id == bindparam("b_job_id", type_=Uuid), model_calls.c.answer.is_not(None))
    .order_by(model_calls.c.id)
)

_file = func.jsonb_build_object(
    "name", artifacts.c.name, "size", artifacts.c.size, "head", artifacts.c.head, type_=JSONB
)

_left = (
    select(func.coalesce(func.jsonb_agg(aggregate_order_by(_file, artifacts.c.name)), text("'[]'")))
    .where(artifacts.c.job_id == attempts.c.job_id, artifacts.c.attempt == attempts.c.number)
    .correlate(attempts)
    .scalar_subquery()
)

#: job_id -> the attempts that ended a round, in order; `files` are what each left: name, size, head.
ROUNDS: Executable = (
    select(
        attempts.c.round,
        attempts.c.code,
        attempts.c.verdict,
        attempts.c.failure,
        attempts.c.exit_code,
        attempts.c.signal,
        attempts.c.stdout,
        attempts.c.stderr,
        attempts.c.stdout_bytes,
        attempts.c.stderr_bytes,
        attempts.c.limits,
        attempts.c.model,
        attempts.c.check_passed,
        attempts.c.note,
        _left.label("files"),
    )
    .where(attempts.c.job_id == bindparam("b_job_id", type_=Uuid), attempts.c.round.is_not(None))
    .order_by(attempts.c.number)
)

# --- caches -------------------------------------------------------------------------------------------


def _hit(table: Any, *columns: Any) -> Executable:
    return (
        update(table)
        .where(
            table.c.key == bindparam("b_key", type_=LargeBinary),
            table.c.caller_id == bindparam("b_caller_id", type_=Uuid),
        )
        .values(hits=table.c.hits + 1, used_at=func.now())
        .returning(*columns)
    )


#: key, caller_id -> the answer, and counts the hit.
CACHED_ANSWER: Executable = _hit(response_cache, response_cache.c.answer)

#: key, caller_id, job_id, answer (JSON as text): what is there already stays.
KEEP_ANSWER: Executable = (
    pg_insert(response_cache)
    .values(
        key=bindparam("b_key", type_=LargeBinary),
        caller_id=bindparam("b_caller_id", type_=Uuid),
        job_id=bindparam("b_job_id", type_=Uuid),
        answer=_json("b_answer"),
    )
    .on_conflict_do_nothing()
    .returning(response_cache.c.key)
)

#: key, caller_id -> the result, and counts the hit.
CACHED_RESULT: Executable = _hit(
    execution_cache,
    execution_cache.c.job_id,
    execution_cache.c.result,
    execution_cache.c.stdout,
    execution_cache.c.stderr,
)

#: key, caller_id, job_id, result (JSON as text), stdout, stderr: what is there already stays.
KEEP_RESULT: Executable = (
    pg_insert(execution_cache)
    .values(
        key=bindparam("b_key", type_=LargeBinary),
        caller_id=bindparam("b_caller_id", type_=Uuid),
        job_id=bindparam("b_job_id", type_=Uuid),
        result=_json("b_result"),
        stdout=bindparam("b_stdout", type_=LargeBinary),
        stderr=bindparam("b_stderr", type_=LargeBinary),
    )
    .on_conflict_do_nothing()
    .returning(execution_cache.c.key)
)
