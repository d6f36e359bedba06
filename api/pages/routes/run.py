"""One run: what was asked, what was tried, what came of it; cancelled, run again, deleted."""

import asyncio
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, Request, Response

from api import statements
from api.auth import Caller, caller_of
from api.documents import Document
from api.pages import snippets
from api.pages.diffs import side_by_side
from api.pages.leavings import shown_leavings
from api.pages.live import live_output
from api.pages.routes.new import body_of
from api.pages.shell import PageRoute, form_of, go, is_part, needs, page
from api.pages.timeline import timeline
from api.problems import Kind, Problem
from api.reading import NOT_FOUND_DETAIL, attempt_of, job_id_of, job_of
from api.rerun import rerun_request
from api.routes import artifacts, control
from api.services import Services, services_of
from api.submission import store
from domain.ids import new_id
from domain.quotas import Scope
from domain.states import FINAL_STATES

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Attempts that a page shows; tasks have a handful at most.
MOST_ATTEMPTS = 20


@router.get("/runs/{job_id}")
async def run(request: Request, job_id: str) -> Response:
    """Shows a run; while it goes on, the page asks again and again for the part that changes."""
    services = services_of(request)
    caller = caller_of(request.scope)
    found = request.scope["retort.job_id"] = job_id_of(job_id)
    job = await job_of(services, caller, found)
    attempts = await _attempts(services, caller, job)
    values = {
        "job": job,
        "attempts": attempts,
        "timeline": timeline(job, attempts),
        "diffs": _diffs(job, attempts),
        "live": {} if job["state"] in FINAL_STATES else await live_output(services, caller, found),
        "left": {
            attempt["number"]: await shown_leavings(services, caller, found, attempt) for attempt in attempts
        },
    }
    if is_part(request):
        return page(request, "_run.html", values)
    again = rerun_request(await _request(services, caller, found), {})
    choices = {
        "snippets": snippets.of(str(request.base_url).rstrip("/"), again),
        "profiles": sorted(services.intake.profiles),
        "models": sorted(await services.serving.models()) if job["task"] is not None else [],
    }
    return page(request, "run.html", values | choices)


@router.get("/runs/{job_id}/artifacts/{name:path}")
async def artifact(request: Request, job_id: str, name: str) -> Response:
    """What a program left, exactly as the API gives it: to be saved, and by no browser run."""
    return await artifacts.fetch(request, job_id, name)


@router.post("/runs/{job_id}/cancel", openapi_extra=needs(Scope.SUBMIT))
async def cancel(request: Request, job_id: str) -> Response:
    """Cancels a run. One that had ended before is shown as it ended."""
    try:
        await control.cancel(request, job_id)
    except Problem as problem:
        if problem.kind is not Kind.JOB_ENDED:
            raise
    return go(f"/runs/{job_id_of(job_id)}")


@router.post("/runs/{job_id}/delete", openapi_extra=needs(Scope.SUBMIT))
async def delete(request: Request, job_id: str) -> Response:
    """Deletes a run that has ended."""
    await control.delete(request, job_id)
    return go("/runs")


@router.post("/runs/{job_id}/rerun", openapi_extra=needs(Scope.SUBMIT))
async def rerun(request: Request, job_id: str) -> Response:
    """Stores the same job again, with what the form says in place of what that said, and goes to it."""
    services = services_of(request)
    caller = caller_of(request.scope)
    found = job_id_of(job_id)
    changes = body_of(await form_of(request))
    changes.pop("code", None)
    changes.pop("task", None)
    row = await _request(services, caller, found)
    wanted = services.intake.check(rerun_request(row, changes), caller.runtime)
    if wanted.task is not None:
        services.intake.tasks.served(wanted.task, await services.serving.models())
    again = request.scope["retort.job_id"] = new_id()
    try:
        await store(services, caller, wanted, again, None, rerun_of=found)
    except psycopg.errors.ForeignKeyViolation:  # it was deleted just now
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL) from None
    return go(f"/runs/{again}")


async def _request(services: Services, caller: Caller, job_id: UUID) -> Any:
    row = await services.database.hot(statements.REQUEST, {"id": job_id, "caller_id": caller.id})
    if row is None:
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL)
    return row


async def _attempts(services: Services, caller: Caller, job: Document) -> list[Document]:
    numbers = [short["number"] for short in job["attempts"]][-MOST_ATTEMPTS:]
    found = await asyncio.gather(*(attempt_of(services, caller, job["id"], number) for number in numbers))
    return [attempt for attempt in found if attempt is not None]


def _diffs(job: Document, attempts: list[Document]) -> dict[int, Any]:
    """What each program changed in the one before it, by the number of its attempt."""
    tried = [attempt for attempt in attempts if attempt["code"] is not None]
    return {
        new["number"]: side_by_side(old["code"], new["code"], job["language"])
        for old, new in pairwise(tried)
        if old["code"] != new["code"]
    }
