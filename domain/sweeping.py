"""What the sweep looks for: jobs to ring for again, jobs that nobody can run, keys that have expired."""

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    Integer,
    Text,
    bindparam,
    cast,
    func,
    literal,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL

from domain.bell import queue_of
from domain.leasing import EXPIRED
from domain.states import Priority, Runtime, State
from domain.tables.caller import callers, idempotency_keys
from domain.tables.job import jobs


def _ago(seconds: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.now() - cast(func.concat(seconds, " seconds"), INTERVAL)


def _full() -> ColumnElement[bool]:
    """Whether a job's caller runs as many as it may: ringing for it would wake a worker for nothing."""
    runs = jobs.alias("runs")
    full = (
        select(runs.c.caller_id)
        .join(callers, callers.c.id == runs.c.caller_id)
        .where(runs.c.lease_token.is_not(None), callers.c.most_running.is_not(None))
        .group_by(runs.c.caller_id, callers.c.most_running)
        .having(func.count() >= callers.c.most_running)
    )
    none = select(callers.c.id).where(callers.c.most_running == 0)
    return jobs.c.caller_id.in_(union_all(full, none))


#: The queues, and what waits in each: its priority, its next step, and the tier it runs on.
KINDS: dict[str, tuple[Priority, State, Runtime | None]] = {
    queue_of(state, priority, runtime or Runtime.RUNC): (priority, state, runtime)
    for priority in Priority
    for state, runtime in (
        (State.GENERATING, None),
        *((State.RUNNING, runtime) for runtime in Runtime),
    )
}


def patience_of(queue: str) -> str:
    """The parameter that has the seconds for a queue."""
    return f"after_s_{queue.replace('.', '_')}"


def _overdue() -> Executable:
    # Each kind by its own index: with `OR` between them every waiting job would be read and sorted.
    def oldest(name: str, *which: ColumnElement[bool]) -> CTE:
        return (
            select(jobs.c.id)
            .where(*which)
            .order_by(jobs.c.rung_at)
            .limit(bindparam("most", type_=Integer))
            .with_for_update(skip_locked=True)
            .cte(name)
        )

    def waiting(queue: str) -> CTE:
        priority, state, runtime = KINDS[queue]
        tier = () if runtime is None else (jobs.c.runtime == runtime.value,)
        return oldest(
            f"waiting_{queue.replace('.', '_')}",
            jobs.c.state == State.QUEUED.value,
            jobs.c.priority == priority.value,
            jobs.c.next_state == state.value,
            *tier,
            jobs.c.rung_at < _ago(bindparam(patience_of(queue), type_=Integer)),
            ~_full(),
        )

    kinds = (*map(waiting, KINDS), oldest("lost", EXPIRED, jobs.c.rung_at < _ago(literal(5))))
    due = union_all(*(select(kind.c.id) for kind in kinds))
    return (
        update(jobs)
        # As an array: the planner looks few of them up, rather than joining with the whole table.
        .where(jobs.c.id == func.any(func.array(due.scalar_subquery())))
        .values(rung_at=func.now())
        .returning(jobs.c.id, jobs.c.next_state, jobs.c.priority, jobs.c.runtime)
    )


#: `patience_of` each queue, most -> jobs that nobody took within so many seconds of their last ring, and jobs
#: whose lease expired; at most `most` of each queue, the oldest first.
OVERDUE: Executable = _overdue()

#: runtimes, after_s: jobs that wait for a tier which has not been offered for so long end; nothing ran.
BREAK_STRANDED: Executable = (
    update(jobs)
    .where(
        jobs.c.state == State.QUEUED.value,
        jobs.c.next_state == State.RUNNING.value,
        jobs.c.runtime == func.any(bindparam("runtimes", type_=ARRAY(Text))),
        jobs.c.created_at < _ago(bindparam("after_s", type_=Integer)),
    )
    .values(
        state=State.BROKEN.value,
        reason=func.concat("no worker offers the runtime ", jobs.c.runtime),
        finished_at=func.now(),
    )
    .returning(jobs.c.id)
)

#: hours, most: forget what Idempotency-Keys made that long ago, the oldest first.
FORGET_KEYS: Executable = idempotency_keys.delete().where(
    tuple_(idempotency_keys.c.caller_id, idempotency_keys.c.key).in_(
        select(idempotency_keys.c.caller_id, idempotency_keys.c.key)
        .where(idempotency_keys.c.created_at < _ago(bindparam("hours", type_=Integer) * 3600))
        .order_by(idempotency_keys.c.created_at)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
    )
)
