"""Jobs whose worker was lost: the attempt that it took along is recorded, and the job waits again or ends."""

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    Uuid,
    bindparam,
    case,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from domain.bell import MAX_CLAIMS
from domain.finishing import next_number
from domain.leasing import EXPIRED, NO_LEASE
from domain.states import State
from domain.tables.attempt import attempts
from domain.tables.job import jobs


def lost_jobs(*which: ColumnElement[bool]) -> CTE:
    """Jobs whose lease expired: the state and worker, read under the row lock before an update hides them."""
    return (
        select(jobs.c.id, jobs.c.leased_by, jobs.c.state, jobs.c.draft, jobs.c.round, jobs.c.task)
        .where(EXPIRED, *which)
        .with_for_update(skip_locked=True)
        .cte("lost")
    )


def record_lost(lost: CTE) -> CTE:
    """Record the attempts that their workers took along."""
    return (
        insert(attempts)
        .from_select(
            ["job_id", "number", "failure", "worker", "code", "model", "round"],
            select(
                lost.c.id,
                next_number(lost.c.id),
                literal("worker_lost"),
                lost.c.leased_by,
                lost.c.draft["code"].astext,
                lost.c.draft["model"].astext,
                case((lost.c.task.is_not(None), lost.c.round)),
            ).where(lost.c.state == State.RUNNING.value),
        )
        .cte("record")
    )


def _break_lost() -> Executable:
    lost = lost_jobs(jobs.c.claims >= MAX_CLAIMS)
    return (
        update(jobs)
        .add_cte(record_lost(lost))
        .where(jobs.c.id == lost.c.id)
        .values(
            state=State.BROKEN.value,
            reason=f"its worker was lost {MAX_CLAIMS} times while it ran",
            finished_at=func.now(),
            **NO_LEASE,
        )
        .returning(jobs.c.id)
    )


#: Jobs whose workers were lost too often end; records the last lost attempt of each.
BREAK_LOST: Executable = _break_lost()


def _requeue_lost() -> Executable:
    lost = lost_jobs(jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))), jobs.c.claims < MAX_CLAIMS)
    return (
        update(jobs)
        .add_cte(record_lost(lost))
        .where(jobs.c.id == lost.c.id)
        .values(state=State.QUEUED.value, **NO_LEASE)
        .returning(jobs.c.id)
    )


#: ids -> those whose lease expired: they wait again, and the lost attempts are recorded. While others wait, a
#: message leads to those, so a job that had to be claimed by its own message might never be.
REQUEUE_LOST: Executable = _requeue_lost()
