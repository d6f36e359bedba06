"""A job with all its attempts in full: the very documents that `/v1` answers with."""

import asyncio
from typing import Any
from uuid import UUID

from api import documents, statements
from api.auth import Caller
from api.problems import Kind, Problem
from api.services import Services

#: Attempts that a page shows; tasks have a handful at most.
MOST_ATTEMPTS = 20


def job_id_of(text: str) -> UUID:
    """The id in a path.

    Raises:
        Problem: 404, as for a job that is not there.
    """
    try:
        found = UUID(text)
    except ValueError:
        raise _none() from None
    if str(found) != text.lower():
        raise _none()
    return found


async def job_of(services: Services, caller: Caller, job_id: UUID) -> documents.Document:
    """A job of the caller's.

    Raises:
        Problem: 404, also where it is another caller's.
    """
    row = await services.database.hot(statements.JOB, {"id": job_id, "caller_id": caller.id})
    if row is None:
        raise _none()
    return documents.job(row)


async def attempts_of(services: Services, caller: Caller, job: documents.Document) -> list[documents.Document]:
    """Its attempts in full, in order, with the calls of their rounds."""
    numbers = [short["number"] for short in job["attempts"]][-MOST_ATTEMPTS:]
    found = await asyncio.gather(*(_attempt_of(services, caller, job["id"], number) for number in numbers))
    return [attempt for attempt in found if attempt is not None]


async def _attempt_of(
    services: Services, caller: Caller, job_id: UUID, number: int
) -> documents.Document | None:
    values = {"id": job_id, "caller_id": caller.id, "number": number}
    row = await services.database.one(statements.ATTEMPT, values)
    if row is None:  # deleted at this moment
        return None
    calls: Any = ()
    if row.round is not None:
        calls = await services.database.all(statements.CALLS, {"job_id": job_id, "round": row.round})
    return documents.attempt(row, calls)


def _none() -> Problem:
    return Problem(Kind.NOT_FOUND, "there is no such job, or it is not yours")
