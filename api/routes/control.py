"""Cancel, rerun, delete."""

from typing import Any

import psycopg
from fastapi import APIRouter, Request, Response

from api import statements
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.body import read_json
from api.ending import cancel_job, forget_artifacts
from api.job_schemas import Job
from api.once import once_of
from api.openapi import BAD_BODY, IDEMPOTENCY_HEADER, NO_ROOM, PREFER_HEADER, operation
from api.problems import Kind, Problem
from api.queries import query_of
from api.reading import NOT_FOUND_DETAIL, job_id_of, job_of, stored_answer
from api.request_schemas import RerunRequest
from api.rerun import rerun_request
from api.services import services_of
from domain.quotas import Scope
from domain.removal import DELETE
from domain.states import State

router = APIRouter(prefix="/v1", route_class=Guarded)

RERUN_EXAMPLES = {
    "again": {"summary": "The same once more", "value": {}},
    "limits": {"summary": "With more memory", "value": {"limits": {"memory_mb": 256}}},
}


@router.post(
    "/jobs/{job_id}/cancel",
    **operation(
        "Cancel a job",
        {200: (Job, "It is cancelled, now or before. What ran is killed within a second.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.JOB_ENDED, Kind.INVALID),
    ),
)
async def cancel(request: Request, job_id: str) -> Response:
    """Ends a job that has not ended. Either this wins, and no result is ever recorded, or it is a 409."""
    query_of(request)
    services = services_of(request)
    caller = caller_of(request.scope)
    found = request.scope["retort.job_id"] = job_id_of(job_id)
    await cancel_job(services, caller.id, found, "cancelled by its caller")
    job = await job_of(services, caller, found)
    if job["state"] != State.CANCELLED:
        raise Problem(
            Kind.JOB_ENDED,
            f"the job had ended before it could be cancelled; its state is {job['state']}",
        )
    return json_answer(job)


@router.post(
    "/jobs/{job_id}/rerun",
    status_code=202,
    **operation(
        "Run a job again",
        {
            202: (Job, "A new job, stored; `rerun_of` names the one it repeats."),
            200: (Job, "Finished within the time that `Prefer: wait=N` gave."),
        },
        scope=Scope.SUBMIT,
        problems=(*BAD_BODY, *NO_ROOM, Kind.NOT_FOUND, Kind.NO_GATEWAY),
        body=RerunRequest,
        examples=RERUN_EXAMPLES,
        parameters=[PREFER_HEADER, IDEMPOTENCY_HEADER],
    ),
)
async def rerun(request: Request, job_id: str) -> Response:
    """Submits what another job was asked for again, with what the body says in place of what that said."""
    query_of(request)
    services = services_of(request)
    found = job_id_of(job_id)
    body = await read_json(request, services.settings.body_timeout_s, optional=True)
    values = {"id": found, "caller_id": caller_of(request.scope).id}
    row: Any = await services.database.hot(statements.REQUEST, values)
    if row is None:
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL)
    wanted = services.intake.check(rerun_request(row, body), caller_of(request.scope).runtime)
    once = once_of(request, body)
    try:
        return await stored_answer(request, services, wanted, once, rerun_of=found)
    except psycopg.errors.ForeignKeyViolation:  # it was deleted just now
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL) from None


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    **operation(
        "Delete a job",
        {204: (None, "It is gone, with its attempts and everything it left.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.JOB_UNFINISHED, Kind.INVALID),
    ),
)
async def delete(request: Request, job_id: str) -> Response:
    """Deletes a job that has ended; one that has not is to be cancelled first."""
    query_of(request)
    services = services_of(request)
    caller = caller_of(request.scope)
    found = request.scope["retort.job_id"] = job_id_of(job_id)
    gone = await services.database.hot(DELETE, {"b_id": found, "b_caller_id": caller.id})
    if gone is None:
        job = await job_of(services, caller, found)
        raise Problem(Kind.JOB_UNFINISHED, f"the job is {job['state']}; cancel it first, or wait for its end")
    await forget_artifacts(services, gone.artifacts)
    return Response(status_code=204)
