"""Jobs: submit, read, wait, list."""

from fastapi import APIRouter, Request, Response

from api import statements
from api.answers import json_answer, kept_answer
from api.attempt_schemas import Attempt, AttemptList
from api.auth import Guarded, caller_of
from api.body import read_json
from api.inline import inline_of
from api.job_schemas import Job, JobList
from api.once import once_of
from api.openapi import (
    BAD_BODY,
    EXAMPLES,
    IDEMPOTENCY_HEADER,
    IF_NONE_MATCH_HEADER,
    INLINE_PARAMETER,
    LIST_PARAMETERS,
    NO_ROOM,
    PREFER_HEADER,
    WAIT_PARAMETER,
    operation,
)
from api.paging import Page
from api.problems import Kind, Problem
from api.queries import query_of, wait_of
from api.reading import NOT_FOUND_DETAIL, attempt_of, job_id_of, job_when_ended, stored_answer
from api.request_schemas import JobRequest
from api.services import services_of
from domain.quotas import Scope
from domain.states import FINAL_STATES

router = APIRouter(prefix="/v1", route_class=Guarded)


@router.post(
    "/jobs",
    status_code=202,
    **operation(
        "Submit a job",
        {
            202: (Job, "Stored. With `Prefer: wait`, not finished in time; `Location` says where to look."),
            200: (Job, "Finished within the time that `Prefer: wait=N` gave."),
        },
        scope=Scope.SUBMIT,
        problems=(*BAD_BODY, *NO_ROOM, Kind.NO_GATEWAY),
        body=JobRequest,
        examples=EXAMPLES,
        parameters=[PREFER_HEADER, IDEMPOTENCY_HEADER, INLINE_PARAMETER],
    ),
)
async def submit(request: Request) -> Response:
    """Stores a job and rings for a worker. Waits for its end where the client prefers that."""
    services = services_of(request)
    body = await read_json(request, services.settings.body_timeout_s)
    wanted = services.intake.check(body, caller_of(request.scope).runtime)
    inline = inline_of(query_of(request, "inline"), services.settings.max_inline_bytes)
    return await stored_answer(request, services, wanted, once_of(request, body), inline=inline)


@router.get(
    "/jobs",
    **operation(
        "List jobs",
        {200: (JobList, "A page of your jobs, newest first, without code and outputs.")},
        scope=Scope.READ,
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
        {
            200: (Job, "The job as it stands, finished or not; once it has ended, with an ETag."),
            304: (None, "It has ended, and `If-None-Match` has its ETag."),
        },
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
        parameters=[WAIT_PARAMETER, INLINE_PARAMETER, IF_NONE_MATCH_HEADER],
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
    document = await job_when_ended(request, services, caller, found, seconds, inline)
    if document["state"] not in FINAL_STATES:
        return json_answer(document)
    return kept_answer(document, request.headers.get("if-none-match"))


@router.get(
    "/jobs/{job_id}/attempts",
    **operation(
        "List the attempts of a job",
        {200: (AttemptList, "All attempts, in order, in short form.")},
        scope=Scope.READ,
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
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL)
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
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def read_attempt(request: Request, job_id: str, number: str) -> Response:
    """Reads one attempt in full."""
    query_of(request)
    if not (number.isascii() and number.isdigit() and len(number) < 7):
        raise Problem(Kind.NOT_FOUND, "there is no such attempt")
    services = services_of(request)
    found = await attempt_of(services, caller_of(request.scope), job_id_of(job_id), int(number))
    if found is None:
        raise Problem(Kind.NOT_FOUND, "there is no such attempt")
    return json_answer(found)
