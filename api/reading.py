"""A job for its caller: stored, waited for, read."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from api import documents, statements
from api.answers import json_answer
from api.auth import Caller, caller_of
from api.inline import put_inline
from api.intake import Wanted
from api.once import REPLAYED, Once
from api.prefer import preferred_wait
from api.problems import Kind, Problem
from api.services import Services
from api.submission import store
from domain.ids import new_id
from domain.job_statements import GET_STATE
from domain.states import FINAL_STATES

NOT_FOUND_DETAIL = "there is no such job"


async def stored_answer(
    request: Request, services: Services, wanted: Wanted, once: Once | None, *, inline: int = 0, **more: Any
) -> Response:
    """Store a job, wait for its end where the client prefers that, and answer with it.

    `inline`: bytes of artifacts that may come within the answer; `more`: further columns of the job.
    """
    caller = caller_of(request.scope)
    if wanted.task is not None:
        services.intake.tasks.served(wanted.task, await services.serving.models())
    seconds = preferred_wait(request.headers.getlist("prefer"), services.settings.max_wait_s)
    job_id = new_id()
    request.scope["retort.job_id"] = job_id
    with services.waiting.register(job_id, wanted=bool(seconds)) as waiter:
        stored = await store(services, caller, wanted, job_id, once, **more)
        headers = {"Location": documents.job_path(stored.job_id)}
        if stored.created_at is None:
            request.scope["retort.job_id"] = stored.job_id
            headers[REPLAYED] = "true"
            document = await job_when_ended(request, services, caller, stored.job_id, seconds or 0, inline)
            return json_answer(document, 200 if document["state"] in FINAL_STATES else 202, headers)
        if waiter is None or not seconds:
            document = documents.fresh_job(job_id, stored.row, stored.created_at, stored.given)
            return json_answer(document, 202, headers)
        await waiter.wait(seconds, request.is_disconnected)
    document = await job_of(services, caller, job_id, inline)
    headers["Preference-Applied"] = f"wait={seconds}"
    return json_answer(document, 200 if document["state"] in FINAL_STATES else 202, headers)


async def job_when_ended(
    request: Request, services: Services, caller: Caller, job_id: UUID, seconds: int, inline: int = 0
) -> documents.Document:
    """A job, not before its end or the given seconds have passed.

    Raises:
        Problem: 404.
    """
    with services.waiting.register(job_id, wanted=bool(seconds)) as waiter:
        if waiter is not None and seconds:
            state = await services.database.hot(GET_STATE, {"id": job_id, "caller_id": caller.id})
            if state is not None and state[0] not in FINAL_STATES:
                await waiter.wait(seconds, request.is_disconnected)
    return await job_of(services, caller, job_id, inline)


async def job_of(services: Services, caller: Caller, job_id: UUID, inline: int = 0) -> documents.Document:
    """A job, with so many bytes of its artifacts at most.

    Raises:
        Problem: 404.
    """
    row = await services.database.hot(statements.JOB, {"id": job_id, "caller_id": caller.id})
    if row is None:
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL)
    document = documents.job(row)
    if inline and row.a_kept:
        await put_inline(document["artifacts"], row.a_kept, inline, services.storage)
    return document


async def attempt_of(
    services: Services, caller: Caller, job_id: UUID, number: int
) -> documents.Document | None:
    """An attempt in full, with the calls of its round; None where there is no such one."""
    values = {"id": job_id, "caller_id": caller.id, "number": number}
    row = await services.database.one(statements.ATTEMPT, values)
    if row is None:
        return None
    calls: Sequence[Any] = ()
    if row.round is not None:
        calls = await services.database.all(statements.CALLS, {"job_id": job_id, "round": row.round})
    return documents.attempt(row, calls)


def job_id_of(text: str) -> UUID:
    """What is no UUID is no job either: the same 404, so that an answer tells nothing about ids."""
    try:
        found = UUID(text)
    except ValueError:
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL) from None
    if str(found) != text.lower():  # UUID() also reads braces and URNs; a job has one address
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL)
    return found
