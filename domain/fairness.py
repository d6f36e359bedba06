"""Which job a worker claims: the one it was rung for while nobody waits, else the fairest.

A bell says that there is work, not whose. While messages are taken as they come, the job of the message is
claimed. As soon as they wait, the order of the queue no longer decides: whichever message comes, the caller
with the fewest running jobs is next, of several the one that was served longest ago, and of its jobs the
oldest. So a caller with 10,000 jobs in the queue delays another's by no more than the job it waits for to end.

Fair claims are made one at a time, under a lock of the database, so that each sees the one before. That also
keeps callers within the number of jobs that they may run at a time. A job that is claimed as it comes, of such
a caller, needs no more than that its caller's other claims wait, and that no fair claim is made meanwhile; and
not even that while its caller is far from that number.

Sessions that claim are to be planned as `domain.sessions.PLANNED` has it.
"""

from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    Integer,
    Select,
    String,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    update,
)

from domain.claiming import CLAIM_VALUES, CLAIMED_COLUMNS, JOB_OF_CLAIM, SERVED
from domain.states import State
from domain.tables.caller import callers
from domain.tables.job import jobs

#: Seconds after its bell within which a job is claimed without a look at anybody else.
FRESH_S = 0.25

#: Number of the database's lock under which fair claims are made.
FAIR_LOCK = 0x66616972

#: Held until the end of the transaction.
LOCK: Executable = select(func.pg_advisory_xact_lock(FAIR_LOCK))

#: As it stands in the indexes of waiting jobs: of a parameter a plan that is made once knows nothing.
_queued = jobs.c.state == literal_column(f"'{State.QUEUED}'", String)
#: The same of a job that is known by its id. Spelt so that no index of waiting jobs is thought of: where few
#: are believed to wait, reading all of them seems as good as reading the one.
_still_queued = func.nullif(jobs.c.state, "") == State.QUEUED.value
#: The same of how many rows are wanted: of a parameter a tenth of all is expected.
_ONE: ColumnElement[int] = literal_column("1", Integer)
#: A job that was postponed has its next ring ahead, and stands in nobody's way until then. (`now()` is when a
#: transaction began, which may have waited for a lock since.)
_due = jobs.c.rung_at <= func.clock_timestamp()


def _same_queue() -> ColumnElement[bool]:
    """As `domain.bell.queue_of` has it.

    A message leads to jobs of its own queue only: the worker that hears it may be unable to do others, and what
    can wait must not go before what cannot.
    """
    named, this = jobs.alias("named"), bindparam("b_id", type_=Uuid)

    def same(name: str) -> ColumnElement[bool]:
        return jobs.c[name] == select(named.c[name]).where(named.c.id == this).scalar_subquery()

    tier = or_(jobs.c.next_state != State.RUNNING.value, same("runtime"))
    return and_(_queued, _due, SERVED, same("next_state"), same("priority"), tier)


_fresh: ColumnElement[bool] = jobs.c.rung_at > func.now() - text(f"interval '{FRESH_S} seconds'")
_mine = callers.c.id == jobs.c.caller_id
_others = jobs.alias("others")
_runs_now = (
    select(func.count())
    # Spelt so that what all callers run is read, and not all that one of them ever ran.
    .where(
        func.nullif(_others.c.caller_id, UUID(int=0)) == jobs.c.caller_id, _others.c.lease_token.is_not(None)
    )
    .correlate(jobs)  # two levels up, where it is not looked for unless told
    .scalar_subquery()
)

#: A caller with so many places free is claimed for without a lock: more claims of it would have to be made
#: within the same millisecond or two to bring it above its limit.
FAR = 64

#: id, token, worker, states -> the job, if it was queued a moment ago, and its caller may run any number, or
#: far more than it runs.
CLAIM_FRESH: Executable = (
    update(jobs)
    .where(
        JOB_OF_CLAIM,
        _still_queued,
        SERVED,
        _fresh,
        exists().where(_mine, or_(callers.c.most_running.is_(None), callers.c.most_running > _runs_now + FAR)),
    )
    .values(CLAIM_VALUES)
    .returning(*CLAIMED_COLUMNS)
)

#: Class of the database's locks that callers with a limit have, one each.
_CALLER_LOCKS = 0x63616C6C

#: id -> held until the end of the transaction: the lock of the job's caller if that has a limit, and a share of
#: `FAIR_LOCK`.
LOCK_CALLER: Executable = (
    select(
        func.pg_advisory_xact_lock_shared(FAIR_LOCK),
        func.pg_advisory_xact_lock(_CALLER_LOCKS, func.hashtext(cast(jobs.c.caller_id, String))),
    )
    .select_from(jobs.join(callers, _mine))
    .where(JOB_OF_CLAIM, callers.c.most_running.is_not(None))
)

#: id, token, worker, states -> the job, if it was queued a moment ago, and its caller may run one more;
#: `most`: so many at a time, None for any number. To be run after `LOCK_CALLER`.
CLAIM_FRESH_LIMITED: Executable = (
    update(jobs)
    .where(
        JOB_OF_CLAIM,
        _still_queued,
        SERVED,
        _fresh,
        exists().where(_mine, or_(callers.c.most_running.is_(None), callers.c.most_running > _runs_now)),
    )
    .values(CLAIM_VALUES)
    .returning(*CLAIMED_COLUMNS, select(callers.c.most_running).where(_mine).scalar_subquery().label("most"))
)

_most = bindparam("b_most", type_=Integer)


def _count(some: Select[int]) -> Select[int]:
    """How many rows there are, up to the parameter `most`."""
    return select(func.count().label("waiting")).select_from(some.limit(_most).subquery())


#: So near its limit a caller may have been refused a place since: as many of its jobs may end at one moment.
NEAR = 8

_caller = bindparam("b_caller_id", type_=Uuid)
_run_now = (
    select(func.count())
    .where(func.nullif(_others.c.caller_id, UUID(int=0)) == _caller, _others.c.lease_token.is_not(None))
    .scalar_subquery()
)

#: caller, priority, the state that comes next, most -> how many such jobs of the caller wait, up to `most`;
#: none where it runs so few that nothing of it can have been refused.
WAITING: Executable = _count(
    select(literal(1)).where(
        _queued,
        jobs.c.caller_id == _caller,
        jobs.c.priority == bindparam("b_priority", type_=String),
        jobs.c.next_state == bindparam("b_next_state", type_=String),
        exists().where(callers.c.id == _caller, callers.c.most_running <= _run_now + NEAR),
    )
)

_named = jobs.alias("message")

#: id, states, most -> of a job that a message names and that waits no more: what its queue follows from, and
#: how many jobs wait in that queue, up to `most`.
STALE: Executable = select(
    _named.c.next_state,
    _named.c.priority,
    _named.c.runtime,
    _count(select(literal(1)).select_from(jobs).where(_same_queue())).scalar_subquery().label("waiting"),
).where(
    _named.c.id == bindparam("b_id", type_=Uuid),
    _named.c.state != State.QUEUED.value,
    # Else its worker was lost, and the message is for whoever takes it over.
    or_(_named.c.lease_until.is_(None), _named.c.lease_until > func.now()),
)


def _waiting() -> CTE:
    """The oldest waiting job of each caller: one step in an index for each, however many jobs it has."""
    columns, order = (jobs.c.caller_id, jobs.c.id), (jobs.c.caller_id.desc(), jobs.c.id)
    queued = _same_queue()
    first = select(*columns).where(queued).order_by(*order).limit(_ONE).subquery("first")
    waiting = select(first.c.caller_id, first.c.id).cte("waiting", recursive=True)
    following = (
        select(*columns)
        .where(queued, jobs.c.caller_id < waiting.c.caller_id)
        .order_by(*order)
        .limit(_ONE)
        .lateral("following")
    )
    return waiting.union_all(
        select(following.c.caller_id, following.c.id).select_from(waiting.join(following, true()))
    )


def running_by_caller() -> CTE:
    """How many jobs each caller runs, of those that run any."""
    return (
        select(jobs.c.caller_id, func.count().label("count"))
        .where(jobs.c.lease_token.is_not(None))
        .group_by(jobs.c.caller_id)
        .cte("running")
    )


def _claim_fairly() -> Executable:
    waiting, running = _waiting(), running_by_caller()
    runs = func.coalesce(running.c.count, 0)
    fairest = (
        select(waiting.c.id, waiting.c.caller_id, callers.c.most_running)
        .join(callers, callers.c.id == waiting.c.caller_id)
        .outerjoin(running, running.c.caller_id == waiting.c.caller_id)
        .where(or_(callers.c.most_running.is_(None), runs < callers.c.most_running))
        .order_by(runs, callers.c.served_at.asc().nulls_first(), waiting.c.id)
        .limit(_ONE)
        .cte("fairest")
    )
    served = (
        update(callers)
        .where(callers.c.id == fairest.c.caller_id)
        .values(served_at=func.clock_timestamp())
        .cte("served")
    )
    return (
        update(jobs)
        .add_cte(served)
        .where(jobs.c.id == fairest.c.id, _still_queued)
        .values(CLAIM_VALUES)
        .returning(
            *CLAIMED_COLUMNS,
            fairest.c.most_running.label("most"),
            case((_fresh, False), else_=True).label("waited"),
        )
    )


#: id, token, worker, states -> the job that is next; `most`: so many its caller may run at a time; `waited`:
#: for longer than `FRESH_S`. To be run after `LOCK`.
CLAIM_FAIRLY: Executable = _claim_fairly()
