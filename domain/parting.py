"""The statement by which a worker that cannot stay gives its jobs to others at once."""

from sqlalchemy import ARRAY, Executable, Uuid, bindparam, func, text, update

from domain.tables.job import jobs

#: tokens, ids of their jobs: these leases have run out, and it is time to ring for them. What their worker
#: still writes counts until somebody else has claimed them.
GIVE_UP: Executable = (
    update(jobs)
    .where(
        jobs.c.lease_token == func.any(bindparam("tokens", type_=ARRAY(Uuid))),
        jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    )
    .values(
        lease_until=func.now() - text("interval '1 second'"), rung_at=func.now() - text("interval '1 hour'")
    )
    .returning(jobs.c.id)
)
