"""Ending and removing jobs from outside: cancel and delete. Each is one statement, and fenced."""

from sqlalchemy import (
    Double,
    Executable,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    delete,
    extract,
    func,
    insert,
    literal,
    select,
    update,
)

from domain.states import State
from domain.tables import artifacts, attempts, execution_cache, idempotency_keys, jobs, response_cache

#: What the attempt of a cancelled run says.
CANCELLED_RUN = "cancelled"

_final = jobs.c.finished_at.is_not(None)  # the database sees to it that this says the same
_of_caller = and_(
    jobs.c.id == bindparam("b_id", type_=Uuid),
    jobs.c.caller_id == bindparam("b_caller_id", type_=Uuid),
)


def _cancel() -> Executable:
    # Under the row lock: whoever claims or finishes the job was before us, and is seen, or comes too late.
    doomed = (
        select(jobs.c.id, jobs.c.state.label("was"), jobs.c.leased_by, jobs.c.started_at)
        .where(_of_caller, ~_final)
        .with_for_update()
        .cte("doomed")
    )
    earlier = attempts.alias("earlier")
    ran = select(func.coalesce(func.sum(earlier.c.wall_s), 0.0)).where(earlier.c.job_id == doomed.c.id)
    number = select(func.coalesce(func.max(earlier.c.number), 0) + 1).where(earlier.c.job_id == doomed.c.id)
    wall = func.greatest(
        0.0,
        cast(extract("epoch", func.now() - doomed.c.started_at), Double) - ran.scalar_subquery(),
    )
    # What ran until now is recorded, because it was used; what it printed is not.
    recorded = (
        insert(attempts)
        .from_select(
            ["job_id", "number", "failure", "worker", "wall_s", "started_at"],
            select(
                doomed.c.id,
                number.scalar_subquery(),
                literal(CANCELLED_RUN),
                doomed.c.leased_by,
                wall,
                doomed.c.started_at,
            ).where(doomed.c.was == State.RUNNING.value),
        )
        .cte("recorded")
    )
    return (
        update(jobs)
        .add_cte(recorded)
        .where(jobs.c.id == doomed.c.id)
        .values(
            state=State.CANCELLED.value,
            reason=bindparam("b_reason", type_=Text),
            finished_at=func.now(),
            lease_token=None,
            lease_until=None,
            leased_by=None,
        )
        .returning(jobs.c.id, doomed.c.was, jobs.c.next_state, jobs.c.priority, jobs.c.runtime)
    )


#: id, caller_id, reason -> the job's id and the state it was in, if it had not ended. Its worker finds its
#: token gone: it kills the sandbox, and whatever it writes changes nothing.
CANCEL: Executable = _cancel()


def _delete() -> Executable:
    gone = delete(jobs).where(_of_caller, _final).returning(jobs.c.id, jobs.c.caller_id).cte("gone")
    forgotten = (
        delete(idempotency_keys)
        .where(idempotency_keys.c.caller_id == gone.c.caller_id, idempotency_keys.c.made == gone.c.id)
        .cte("forgotten")
    )
    uncached = [
        delete(cache).where(cache.c.job_id == gone.c.id).cte(f"un{cache.name}")
        for cache in (execution_cache, response_cache)
    ]
    # Seen as they were before the statement: they go with the job.
    left = select(artifacts.c.id).where(artifacts.c.job_id == gone.c.id)
    return select(gone.c.id, func.array(left.scalar_subquery()).label("artifacts")).add_cte(
        forgotten, *uncached
    )


#: id, caller_id -> the job's id, if it had ended, and the ids of its artifacts, whose contents have still to
#: go. Its rows are gone, and what caches had of it.
DELETE: Executable = _delete()
