"""The lease on a job, and the statements that keep it or give it back.

Every write of a worker names its lease token, so a worker that lost its lease changes nothing: no row back
means stop quietly.

Of all the statements that move jobs (here, in `claiming`, `finishing`, `losing`, `sweeping` and
`task_statements`) each is one round trip. They are built once; executing one costs no compilation. Parameters
are the `bindparam` names; `b_` marks those that would otherwise clash with a column of the same statement.
"""

from sqlalchemy import Double, Executable, Uuid, and_, bindparam, func, update
from sqlalchemy.dialects.postgresql import ARRAY

from domain.bell import LEASE_S
from domain.states import State
from domain.tables.job import jobs

#: `b_lease_s` may be left out.
LEASE_UNTIL = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("b_lease_s", LEASE_S, type_=Double))
NO_LEASE = {"lease_token": None, "lease_until": None, "leased_by": None}
#: id, token: the job, while I hold its lease.
MINE = and_(jobs.c.id == bindparam("b_id"), jobs.c.lease_token == bindparam("b_token"))
#: A job has a token exactly while it is leased (the database sees to it), and this is how the index says it.
EXPIRED = and_(jobs.c.lease_token.is_not(None), jobs.c.lease_until < func.now())

#: tokens, ids of their jobs -> the tokens that still hold; one that does not come back has lost its lease.
#: Where the answer to a claim was lost, another job may be claimed under the same token; that is not extended.
HEARTBEAT: Executable = (
    update(jobs)
    .where(
        jobs.c.lease_token == func.any(bindparam("tokens", type_=ARRAY(Uuid))),
        jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    )
    .values(lease_until=LEASE_UNTIL)
    .returning(jobs.c.lease_token)
)

#: id, token -> gives the claim back as if it had never been: nothing ran.
RELEASE: Executable = (
    update(jobs)
    .where(MINE)
    .values(state=State.QUEUED.value, claims=jobs.c.claims - 1, rung_at=func.now(), **NO_LEASE)
    .returning(jobs.c.id)
)
