"""Batches: how far each is, what came of its jobs, its results; cancelled or deleted as a whole."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api import batch_results
from api.accounts import id_of, page_of
from api.auth import caller_of
from api.filters import condition
from api.listing import list_jobs
from api.pages.routes.runs import lines, with_beginning
from api.pages.shell import PageRoute, go, is_part, needs, page
from api.routes import batches
from api.services import services_of
from domain.batches import COUNT, LIST_PROGRESS
from domain.quotas import Scope
from domain.states import FINAL_STATES

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Jobs on the page of a batch, the newest; the list of runs has all.
_SHOWN = 20


@router.get("/batches")
async def list_batches(request: Request) -> Response:
    """Lists batches, newest first, with how far they are. The first page keeps itself up to date."""
    caller_id = caller_of(request.scope).id
    rows, following = await page_of(request, LIST_PROGRESS, {"b_caller_id": caller_id})
    live = "cursor" not in request.query_params
    shown = [{**batch_results.summary(row), "unfinished": row.unfinished} for row in rows]
    values = {"batches": shown, "following": following, "live": live}
    return page(request, "_batches.html" if is_part(request) else "batches.html", values)


@router.get("/batches/{batch_id}")
async def show(request: Request, batch_id: str) -> Response:
    """Shows a batch and the last of its jobs; while it goes on, the page asks for itself again and again."""
    services = services_of(request)
    caller_id = caller_of(request.scope).id
    found = id_of(batch_id, batches.NO_BATCH)
    row = await batches.batch_row(services, caller_id, found)
    batch = batch_results.batch(row, await services.database.all(COUNT, {"b_batch_id": found}))
    of_it = [condition("batch", str(found))]
    jobs = await services.database.all(
        with_beginning(list_jobs(caller_id, below=None, most=_SHOWN, also=of_it)), {}
    )
    values = {
        "batch": batch,
        "done": sum(batch["counts"][state] for state in FINAL_STATES) + batch["counts"]["deleted"],
        "words": _words(batch),
        "runs": lines(jobs),
    }
    return page(request, "_batch.html" if is_part(request) else "batch.html", values)


def _words(batch: dict[str, Any]) -> dict[str, int]:
    """How many jobs are in which state, or ended with which verdict; what there is none of is left out."""
    states = {state: count for state, count in batch["counts"].items() if state not in ("finished", "deleted")}
    return {word: count for word, count in {**batch["verdicts"], **states}.items() if count}


@router.get("/batches/{batch_id}/results")
async def results(request: Request, batch_id: str) -> Response:
    """The results as the API gives them, to be saved."""
    answer = await batches.read_results(request, batch_id)
    name = f"batch-{UUID(batch_id)}.ndjson"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.post("/batches/{batch_id}/cancel", openapi_extra=needs(Scope.SUBMIT))
async def cancel(request: Request, batch_id: str) -> Response:
    """Cancels what has not ended."""
    await batches.cancel(request, batch_id)
    return go(f"/batches/{id_of(batch_id, batches.NO_BATCH)}")


@router.post("/batches/{batch_id}/delete", openapi_extra=needs(Scope.SUBMIT))
async def delete(request: Request, batch_id: str) -> Response:
    """Deletes a batch that has ended, with its jobs."""
    await batches.delete(request, batch_id)
    return go("/batches")
