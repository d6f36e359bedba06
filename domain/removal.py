"""Removing jobs that have ended, with all that is kept of them. What they used stays in the caller's books.

Each statement gives the ids of the artifacts back, whose contents have still to go; what a crash leaves of them
is found by looking for contents without a row.
"""

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    Integer,
    Uuid,
    bindparam,
    cast,
    column,
    delete,
    exists,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert

from domain.tables.attempt import artifacts
from domain.tables.cache import execution_cache, response_cache
from domain.tables.caller import callers, idempotency_keys
from domain.tables.job import batches, jobs
from domain.tables.usage import past_usage
from domain.usage import USED, used

_final = jobs.c.finished_at.is_not(None)  # the database sees to it that this says the same


def _remove(doomed: CTE) -> Executable:
    """Delete the jobs whose ids are in `doomed`."""
    gone = (
        delete(jobs).where(jobs.c.id == doomed.c.id, _final).returning(jobs.c.id, jobs.c.caller_id).cte("gone")
    )
    forgotten = (
        delete(idempotency_keys)
        .where(idempotency_keys.c.caller_id == gone.c.caller_id, idempotency_keys.c.made == gone.c.id)
        .cte("forgotten")
    )
    uncached = [
        delete(cache).where(cache.c.job_id == gone.c.id).cte(f"un{cache.name}")
        for cache in (execution_cache, response_cache)
    ]
    # All of these are seen as they were before the statement: they go with the job.
    entry = pg_insert(past_usage).from_select(
        ["caller_id", "day", *USED], used(select(gone.c.id, gone.c.caller_id))
    )
    noted = entry.on_conflict_do_update(
        index_elements=["caller_id", "day"],
        set_={name: past_usage.c[name] + entry.excluded[name] for name in USED},
    ).cte("noted")
    left = select(artifacts.c.id).where(artifacts.c.job_id == gone.c.id)
    return select(gone.c.id, func.array(left.scalar_subquery()).label("artifacts")).add_cte(
        forgotten, *uncached, noted
    )


#: id, caller_id -> the job's id, if it had ended, and the ids of its artifacts. Its rows are gone, and what
#: caches had of it.
DELETE: Executable = _remove(
    select(jobs.c.id)
    .where(
        jobs.c.id == bindparam("b_id", type_=Uuid),
        jobs.c.caller_id == bindparam("b_caller_id", type_=Uuid),
    )
    .cte("doomed")
)

#: batch_id, most -> the same of jobs of a batch.
DELETE_OF_BATCH: Executable = _remove(
    select(jobs.c.id)
    .where(jobs.c.batch_id == bindparam("b_batch_id", type_=Uuid), _final)
    .order_by(jobs.c.batch_index)
    .limit(bindparam("b_most", type_=Integer))
    .cte("doomed")
)

_days = func.make_interval(0, 0, 0, bindparam("b_days", type_=Integer))

#: caller_id, before_id (older than any job that is not to go), days, most -> the same of a caller's jobs that
#: ended so many days ago.
EXPIRE_JOBS: Executable = _remove(
    select(jobs.c.id)
    .where(
        jobs.c.caller_id == bindparam("b_caller_id", type_=Uuid),
        jobs.c.id < bindparam("b_before_id", type_=Uuid),
        jobs.c.finished_at < func.now() - _days,
    )
    .order_by(jobs.c.id)
    .limit(bindparam("b_most", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("doomed")
)


def _batch_gone(*which: ColumnElement[bool]) -> Executable:
    gone = delete(batches).where(~exists().where(jobs.c.batch_id == batches.c.id), *which)
    deleted = gone.returning(batches.c.id, batches.c.caller_id).cte("gone")
    forgotten = (
        delete(idempotency_keys)
        .where(idempotency_keys.c.caller_id == deleted.c.caller_id, idempotency_keys.c.made == deleted.c.id)
        .cte("forgotten")
    )
    return select(deleted.c.id).add_cte(forgotten)


#: batch_id -> the id, if it has no jobs any more.
DELETE_BATCH: Executable = _batch_gone(batches.c.id == bindparam("b_batch_id", type_=Uuid))

#: caller_id, days: batches of such an age without jobs.
EXPIRE_BATCHES: Executable = _batch_gone(
    batches.c.caller_id == bindparam("b_caller_id", type_=Uuid),
    batches.c.created_at < func.now() - _days,
)

#: days (for callers who have no number of their own; 0: for ever) -> callers and the days that their jobs are
#: kept, where that is not for ever.
RETENTIONS: Executable = (
    select(column("id", Uuid), column("days", Integer))
    .select_from(
        select(
            callers.c.id,
            func.coalesce(
                cast(callers.c.quotas["retention_days"].astext, Integer), bindparam("b_days", type_=Integer)
            ).label("days"),
        ).subquery("kept")
    )
    .where(column("days", Integer) > 0)
)
