"""The statements of batches: jobs that came in one request, stored, counted and read together."""

from typing import Any

from sqlalchemy import (
    Executable,
    Integer,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.paging import newest_first
from domain.tables.attempt import attempts
from domain.tables.job import batches, jobs

#: Jobs of one batch; a setting may allow fewer.
MOST_JOBS = 10_000

_of_caller = and_(
    batches.c.id == bindparam("b_id", type_=Uuid),
    batches.c.caller_id == bindparam("b_caller_id", type_=Uuid),
)
_in_batch = jobs.c.batch_id == bindparam("b_batch_id", type_=Uuid)
_final = jobs.c.finished_at.is_not(None)  # the database sees to it that this says the same


def insert_jobs(names: tuple[str, ...]) -> Executable:
    """Insert rows of `jobs` with these columns, from the parameter `rows`: a JSON array of objects, as text.

    Bytes are given as PostgreSQL writes them, `\\x` and hexadecimal digits; what an object lacks is null.
    """
    given = func.jsonb_to_recordset(cast(bindparam("rows", type_=Text), JSONB)).table_valued(
        *(column(name, jobs.c[name].type) for name in names)
    )
    rows = given.render_derived(name="given", with_types=True)
    return insert(jobs).from_select(list(names), select(*(rows.c[name] for name in names)))


#: id, name, caller_id, total -> when the batch was stored.
INSERT_BATCH: Executable = (
    insert(batches)
    .values({name: bindparam(f"b_{name}", type_=batches.c[name].type) for name in ("id", "name", "total")})
    .values(caller_id=bindparam("b_caller_id", type_=Uuid))
    .returning(batches.c.created_at)
)

#: id, caller_id -> the batch, unless it is another caller's.
GET_BATCH: Executable = select(batches).where(_of_caller)

#: caller_id, below (an id or null), most -> a caller's batches, newest first.
LIST_BATCHES: Select[Any] = newest_first(
    select(batches).where(batches.c.caller_id == bindparam("b_caller_id", type_=Uuid)), batches.c.id
)

#: The same -> with how many of its jobs have not ended.
LIST_PROGRESS: Executable = LIST_BATCHES.add_columns(
    select(func.count())
    .select_from(jobs)
    .where(jobs.c.batch_id == batches.c.id, ~_final)
    .scalar_subquery()
    .label("unfinished")
)

#: batch_id -> state, verdict, jobs: how many there are of each; what they cost, whether that is all of it, and
#: when the last of them ended.
COUNT: Executable = (
    select(
        jobs.c.state,
        jobs.c.verdict,
        func.count().label("jobs"),
        func.sum(jobs.c.cost_usd).label("cost_usd"),
        func.bool_and(jobs.c.cost_complete).label("cost_complete"),
        func.max(jobs.c.finished_at).label("finished_at"),
    )
    .where(_in_batch)
    .group_by(jobs.c.state, jobs.c.verdict)
)

#: batch_id -> one of its jobs that has not ended, if there is any.
ANY_UNFINISHED: Executable = select(jobs.c.id).where(_in_batch, ~_final).limit(1)

#: batch_id -> its jobs that some worker has.
LEASED: Executable = select(jobs.c.id).where(_in_batch, jobs.c.lease_token.is_not(None))

#: id, caller_id: from now on it counts as cancelled.
CANCEL_BATCH: Executable = (
    update(batches)
    .where(_of_caller)
    .values(cancelled_at=func.coalesce(batches.c.cancelled_at, func.now()))
    .returning(batches.c.id)
)


def _ended() -> Executable:
    def length(stored: Any) -> Any:
        return func.coalesce(func.octet_length(stored), 0)

    bulk = (
        select(length(attempts.c.stdout) + length(attempts.c.stderr))
        .where(attempts.c.job_id == jobs.c.id)
        .order_by(attempts.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    size = func.coalesce(bulk, 0) + length(jobs.c.code) + length(jobs.c.task)
    return (
        select(jobs.c.id, jobs.c.batch_index, size.label("bytes"))
        .where(_in_batch, _final, jobs.c.batch_index > bindparam("b_after", type_=Integer))
        .order_by(jobs.c.batch_index)
        .limit(bindparam("b_most", type_=Integer))
    )


#: batch_id, after, most -> id and place of its jobs that have ended, from behind the place `after` on, and
#: about how many bytes each is.
ENDED: Executable = _ended()
