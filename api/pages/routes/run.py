"""One run: what was asked, what was tried, what came of it."""

from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request, Response

from api.auth import caller_of
from api.documents import Document
from api.pages.diffs import side_by_side
from api.pages.reading import attempts_of, job_id_of, job_of
from api.pages.shell import PageRoute, is_part, page
from api.pages.timeline import timeline
from api.services import services_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/runs/{job_id}")
async def run(request: Request, job_id: str) -> Response:
    """Shows a run; while it goes on, the page asks again and again for the part that changes."""
    services = services_of(request)
    caller = caller_of(request.scope)
    found = request.scope["retort.job_id"] = job_id_of(job_id)
    job = await job_of(services, caller, found)
    attempts = await attempts_of(services, caller, job)
    values = {
        "job": job,
        "attempts": attempts,
        "timeline": timeline(job, attempts),
        "diffs": _diffs(job, attempts),
    }
    return page(request, "_run.html" if is_part(request) else "run.html", values)


def _diffs(job: Document, attempts: list[Document]) -> dict[int, Any]:
    """What each program changed in the one before it, by the number of its attempt."""
    tried = [attempt for attempt in attempts if attempt["code"] is not None]
    return {
        new["number"]: side_by_side(old["code"], new["code"], job["language"])
        for old, new in pairwise(tried)
        if old["code"] != new["code"]
    }
