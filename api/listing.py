"""The statement that lists a caller's jobs."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, func, literal, select, true, union_all

from api.statements import SUMMARY
from domain.tables.job import jobs

Conditions = Sequence[ColumnElement[bool]]

#: Jobs that are read one by one, of those that the index on a caller's jobs lets through.
NEAR = 2000


def list_jobs(
    caller_id: UUID,
    *,
    below: UUID | None,
    most: int,
    listed: Conditions = (),
    also: Conditions = (),
    newest: int | None = None,
    near: int = NEAR,
) -> Select[Any]:
    """A caller's jobs, newest first, from below an id on, of which all this is also true.

    `listed`: conditions that the index on a caller's jobs decides, where the others should come after them.
    `newest`: no others are looked at than so many of all of the caller's.

    Which they are is found first, in an index if it has all that is asked for; only those are read.
    """
    mine = [jobs.c.caller_id == caller_id]
    if below is not None:
        mine.append(jobs.c.id < below)
    if newest is not None:
        every = jobs.alias("every")
        of_caller = select(every.c.id).where(every.c.caller_id == caller_id).order_by(every.c.id.desc())
        last = of_caller.offset(newest - 1).limit(1).scalar_subquery()
        mine.append(jobs.c.id >= func.coalesce(last, literal(UUID(int=0), Uuid)))
    if listed:
        page = _near_and_far([*mine, *listed], also, most, near).subquery("page")
    else:
        found = select(jobs.c.id).where(*mine, *also)
        page = found.order_by(jobs.c.id.desc()).limit(most).subquery("page")
    return (
        select(*(jobs.c[name] for name in SUMMARY))
        .join(page, page.c.id == jobs.c.id)
        .order_by(jobs.c.id.desc())
    )


def _near_and_far(listed: Conditions, also: Conditions, most: int, near: int) -> Select[Any]:
    """Ids of jobs for which all of both is true.

    There is an index for `listed` and one for `also`, but the planner cannot tell how many jobs have both: it
    takes texts and verdicts for independent. And no plan of its decides `listed` in the index before it reads a
    row for `also`. So the newest jobs that `listed` lets through are read, at most `near`. Only where there are
    more and too few were found, all others are asked for, by whichever index finds all of them soonest.
    """
    through = select(jobs.c.id).where(*listed).order_by(jobs.c.id.desc())
    newest = through.limit(near).subquery("newest")
    # The limit keeps it what it is: one row read for each.
    hit = select(jobs.c.id).where(jobs.c.id == newest.c.id, *also).limit(1).lateral("hit")
    first = select(newest.c.id).join(hit, true()).order_by(newest.c.id.desc()).limit(most).cte("first")
    last = through.offset(near - 1).limit(1).scalar_subquery()
    enough = select(func.count()).select_from(first).scalar_subquery()
    # The offset keeps the planner from walking through all in order, for the sake of the first.
    far = select(jobs.c.id).where(*listed, *also, jobs.c.id < last, enough < most).offset(0).subquery("far")
    rest = select(far.c.id).order_by(far.c.id.desc()).limit(most).subquery("rest")
    both = union_all(select(first.c.id), select(rest.c.id)).subquery("both")
    return select(both.c.id).order_by(both.c.id.desc()).limit(most)
