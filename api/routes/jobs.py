"""Jobs: submit, read, wait, list."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api import documents, statements
from api.answers import json_answer
from api.auth import Caller, caller_of
from api.body import read_json
from api.inline import inline_of, put_inline
from api.inputs import check_inputs
from api.openapi import BAD_BODY, INLINE_PARAMETER, LIST_PARAMETERS, PREFER_HEADER, WAIT_PARAMETER, operation
from api.paging import Page
from api.prefer import preferred_wait
from api.problems import Kind, Problem
from api.queries import query_of, wait_of
from api.schemas import Attempt, AttemptList, Job, JobList, JobRequest
from api.services import Services, services_of
from domain.bell import queue_of
from domain.ids import new_id
from domain.statements import GET_STATE, INSERT_JOB, INSERT_JOB_WITH_FILES
from domain.states import FINAL_STATES

router = APIRouter(prefix="/v1")

_NOT_FOUND = "there is no such job"


@router.post(
    "/jobs",
    status_code=202,
    **operation(
        "Submit a job",
        {
            202: (Job, "Stored. With `Prefer: wait`, not finished in time; `Location` says where to look."),
            200: (Job, "Finished within the time that `Prefer: wait=N` gave."),
        },
        problems=(*BAD_BODY, Kind.NO_GATEWAY),
        body=JobRequest,
        parameters=[PREFER_HEADER, INLINE_PARAMETER],
    ),
)
async def submit(request: Request) -> Response:
    """Stores a job and rings for a worker. Waits for its end where the client prefers that."""
    services = services_of(request)
    caller = caller_of(request.scope)
    wanted = services.intake.check(await read_json(request, services.settings.body_timeout_s), caller.runtime)
    if wanted.task is not None:
        services.intake.tasks.served(wanted.task, await services.serving.models())
    seconds = preferred_wait(request.headers.getlist("prefer"), services.settings.max_wait_s)
    inline = inline_of(query_of(request, "inline"), services.settings.max_inline_bytes)
    row, statement, given = wanted.row(), INSERT_JOB, []
    if wanted.request.files:
        inputs = await check_inputs(
            wanted.request.files,
            program=wanted.language.program,
            limits=wanted.profile.files,
            most_bytes=wanted.most_input_bytes,
            database=services.database,
            caller_id=caller.id,
        )
        row, statement, given = row | inputs.row(), INSERT_JOB_WITH_FILES, inputs.given
    job_id = new_id()
    request.scope["retort.job_id"] = job_id
    headers = {"Location": documents.job_path(job_id)}
    with services.waiting.register(job_id, wanted=bool(seconds)) as waiter:
        stored = await services.database.hot(statement, {"id": job_id, "caller_id": caller.id, **row})
        if stored is None:
            raise RuntimeError("an insert that returns nothing")
        services.bell.ring(job_id, queue_of(row["next_state"], row["priority"], row["runtime"]))
        if waiter is None or not seconds:
            return json_answer(documents.fresh_job(job_id, row, stored.created_at, given), 202, headers)
        await waiter.wait(seconds, request.is_disconnected)
    document = await _job(services, caller, job_id, inline)
    headers["Preference-Applied"] = f"wait={seconds}"
    return json_answer(document, 200 if document["state"] in FINAL_STATES else 202, headers)


@router.get(
    "/jobs",
    **operation(
        "List jobs",
        {200: (JobList, "A page of your jobs, newest first, without code and outputs.")},
        problems=(Kind.INVALID,),
        parameters=LIST_PARAMETERS,
    ),
)
async def list_jobs(request: Request) -> Response:
    """Lists the caller's jobs by keyset: a page stays where it was while new jobs arrive."""
    services = services_of(request)
    page = Page.of(request, services.offered.languages)
    found = await services.database.all(page.statement(caller_of(request.scope).id), {})
    return json_answer(page.document(found))


@router.get(
    "/jobs/{job_id}",
    **operation(
        "Read a job",
        {200: (Job, "The job as it stands, finished or not.")},
        problems=(Kind.NOT_FOUND, Kind.INVALID),
        parameters=[WAIT_PARAMETER, INLINE_PARAMETER],
    ),
)
async def read(request: Request, job_id: str) -> Response:
    """Reads a job; with `wait`, not before its end or the given seconds have passed."""
    services = services_of(request)
    caller = caller_of(request.scope)
    query = query_of(request, "wait", "inline")
    seconds = wait_of(query, services.settings.max_wait_s)
    inline = inline_of(query, services.settings.max_inline_bytes)
    found = job_id_of(job_id)
    request.scope["retort.job_id"] = found
    with services.waiting.register(found, wanted=bool(seconds)) as waiter:
        if waiter is not None and seconds:
            state = await services.database.hot(GET_STATE, {"id": found, "caller_id": caller.id})
            if state is not None and state[0] not in FINAL_STATES:
                await waiter.wait(seconds, request.is_disconnected)
    return json_answer(await _job(services, caller, found, inline))


@router.get(
    "/jobs/{job_id}/attempts",
    **operation(
        "List the attempts of a job",
        {200: (AttemptList, "All attempts, in order, in short form.")},
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def list_attempts(request: Request, job_id: str) -> Response:
    """Lists the attempts of a job."""
    query_of(request)
    rows = await services_of(request).database.all(
        statements.ATTEMPTS,
        {"id": job_id_of(job_id), "caller_id": caller_of(request.scope).id},
    )
    if not rows:
        raise Problem(Kind.NOT_FOUND, _NOT_FOUND)
    return json_answer(
        {
            "attempts": [
                {name: getattr(row, name) for name in statements.SHORT_ATTEMPT}
                for row in rows
                if row.number is not None
            ],
        },
    )


@router.get(
    "/jobs/{job_id}/attempts/{number}",
    **operation(
        "Read an attempt",
        {200: (Attempt, "The attempt with its outputs.")},
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def read_attempt(request: Request, job_id: str, number: str) -> Response:
    """Reads one attempt in full."""
    query_of(request)
    if not (number.isascii() and number.isdigit() and len(number) < 7):
        raise Problem(Kind.NOT_FOUND, "there is no such attempt")
    services = services_of(request)
    row = await services.database.one(
        statements.ATTEMPT,
        {"id": job_id_of(job_id), "caller_id": caller_of(request.scope).id, "number": int(number)},
    )
    if row is None:
        raise Problem(Kind.NOT_FOUND, "there is no such attempt")
    calls: Sequence[Any] = ()
    if row.round is not None:
        calls = await services.database.all(statements.CALLS, {"job_id": row.job_id, "round": row.round})
    return json_answer(documents.attempt(row, calls))


async def _job(services: Services, caller: Caller, job_id: UUID, inline: int) -> documents.Document:
    row = await services.database.hot(statements.JOB, {"id": job_id, "caller_id": caller.id})
    if row is None:
        raise Problem(Kind.NOT_FOUND, _NOT_FOUND)
    document = documents.job(row)
    if inline and row.a_kept:
        await put_inline(document["artifacts"], row.a_kept, inline, services.storage)
    return document


def job_id_of(text: str) -> UUID:
    """What is no UUID is no job either: the same 404, so that an answer tells nothing about ids."""
    try:
        found = UUID(text)
    except ValueError:
        raise Problem(Kind.NOT_FOUND, _NOT_FOUND) from None
    if str(found) != text.lower():  # UUID() also reads braces and URNs; a job has one address
        raise Problem(Kind.NOT_FOUND, _NOT_FOUND)
    return found
