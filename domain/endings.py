"""Ending jobs from outside: a cancel is one statement, and fenced."""

from sqlalchemy import (
    CTE,
    Double,
    Executable,
    Integer,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    extract,
    func,
    insert,
    literal,
    select,
    update,
)

from domain.states import State
from domain.tables.attempt import attempts
from domain.tables.job import jobs

#: What the attempt of a cancelled run says.
CANCELLED_RUN = "cancelled"

_unfinished = jobs.c.finished_at.is_(None)  # the database sees to it that this says the same
_of_caller = and_(
    jobs.c.id == bindparam("b_id", type_=Uuid),
    jobs.c.caller_id == bindparam("b_caller_id", type_=Uuid),
)


_doomed = select(jobs.c.id, jobs.c.state.label("was"), jobs.c.leased_by, jobs.c.started_at).where(_unfinished)


def _cancel(doomed: CTE) -> Executable:
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
#:
#: Under the row lock: whoever claims or finishes the job was before us, and is seen, or comes too late.
CANCEL: Executable = _cancel(_doomed.where(_of_caller).with_for_update().cte("doomed"))

#: batch_id, most, reason -> the same for jobs of a batch that wait; those that somebody is at are passed over.
CANCEL_WAITING: Executable = _cancel(
    _doomed.where(
        jobs.c.batch_id == bindparam("b_batch_id", type_=Uuid),
        jobs.c.state == State.QUEUED.value,
    )
    .order_by(jobs.c.batch_index)
    .limit(bindparam("b_most", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("doomed")
)
