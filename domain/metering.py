"""What the database says of the queues, the leases and the outbox: statements for whoever measures them.

Each reads only what has not ended, by partial indexes: however many jobs there are that have.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Float,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from domain.fairness import running_by_caller
from domain.states import Runtime, State
from domain.tables.caller import callers
from domain.tables.job import jobs
from domain.tables.webhook import webhook_deliveries, webhooks

_queued = jobs.c.state == State.QUEUED.value
_postponed = jobs.c.rung_at > func.now()
#: A job that was claimed before waits since it was put back; rung for again it seems younger than it is.
_since = case((jobs.c.started_at.is_(None), jobs.c.created_at), else_=jobs.c.rung_at)
_tier = case((jobs.c.next_state == State.RUNNING.value, jobs.c.runtime), else_=Runtime.RUNC.value)


def _seconds_since(moment: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(func.date_part("epoch", func.now() - moment), Float)


#: -> of each queue that has any: jobs that wait, those put off until later among them, and the longest wait.
QUEUES: Executable = (
    select(
        jobs.c.priority,
        jobs.c.next_state,
        _tier.label("runtime"),
        func.count().label("jobs"),
        func.count().filter(_postponed).label("postponed"),
        _seconds_since(func.min(_since).filter(~_postponed)).label("oldest_s"),
    )
    .where(_queued)
    .group_by(jobs.c.priority, jobs.c.next_state, _tier)
)

#: -> of each state in which a worker has a job: how many, and how many of their leases have run out.
LEASED: Executable = (
    select(
        jobs.c.state,
        func.count().label("jobs"),
        func.count().filter(jobs.c.lease_until < func.now()).label("overdue"),
    )
    .where(jobs.c.lease_token.is_not(None))
    .group_by(jobs.c.state)
)

_next_at = webhook_deliveries.c.next_at
_due = and_(_next_at <= func.now(), webhooks.c.enabled)

#: -> messages that wait, those that are due, and for how long the oldest of these has been.
OUTBOX: Executable = (
    select(
        func.count().label("waiting"),
        func.count().filter(_due).label("due"),
        func.coalesce(_seconds_since(func.min(webhook_deliveries.c.next_at).filter(_due)), 0.0).label(
            "oldest_s"
        ),
    )
    .select_from(webhook_deliveries.join(webhooks))
    .where(webhook_deliveries.c.state == "waiting")
)


def _stuck() -> Executable:
    running = running_by_caller()
    full = exists(literal(1)).where(
        callers.c.id == jobs.c.caller_id,
        func.coalesce(select(running.c.count).where(running.c.caller_id == callers.c.id).scalar_subquery(), 0)
        >= callers.c.most_running,
    )
    return (
        select(jobs.c.id, _seconds_since(_since).label("age_s"))
        .where(
            _queued,
            jobs.c.next_state == State.RUNNING.value,
            jobs.c.runtime == func.any(bindparam("runtimes", type_=ARRAY(Text))),
            _since < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("after_s", type_=Float)),
            ~full,
        )
        .limit(1)
    )


#: runtimes, after_s -> a program that has waited for so long although its tier is there and its caller may run
#: more; none, if none has.
STUCK: Executable = _stuck()
