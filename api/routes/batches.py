"""Batches: many jobs in one request, done when nothing more urgent is."""

import asyncio
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from api.accounts import id_of, page_of
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.batch_lines import NDJSON, lines_of
from api.batch_results import batch, results, summary
from api.batch_schemas import Batch, BatchList, BatchRequest, BatchResult
from api.batch_store import gather, store_batch
from api.ending import cancel_job, forget_artifacts
from api.once import REPLAYED, Once, fingerprint_of, key_of
from api.openapi import (
    BAD_BODY,
    IDEMPOTENCY_HEADER,
    NO_ROOM,
    PAGE_PARAMETERS,
    ndjson_answer,
    ndjson_body,
    operation,
    query_parameter,
)
from api.problems import FieldError, Kind, Problem, invalid
from api.queries import query_of
from api.services import Services, services_of
from domain import batches as statements
from domain.endings import CANCEL_WAITING
from domain.quotas import Scope
from domain.removal import DELETE_BATCH, DELETE_OF_BATCH

router = APIRouter(prefix="/v1", route_class=Guarded)

PATH = "/v1/batches"
NO_BATCH = "there is no such batch"
CANCELLED_WITH_BATCH = "cancelled with its batch"
_MOST_NAME = 128

#: Jobs that one statement cancels, or deletes.
_AT_ONCE = 500

#: Looks for jobs that moved while others were being cancelled.
_LOOKS = 100

EXAMPLES = {
    "two": {
        "summary": "Two jobs, told apart by their labels",
        "value": {
            "jobs": [
                {"code": "print(1)", "labels": {"row": "1"}},
                {"code": "print(2)", "labels": {"row": "2"}, "limits": {"timeout_s": 5}},
            ]
        },
    },
}


@router.post(
    "/batches",
    status_code=202,
    **ndjson_body(
        operation(
            "Submit a batch",
            {202: (Batch, "All jobs are stored; `Location` says where to look.")},
            scope=Scope.SUBMIT,
            problems=(*BAD_BODY, *NO_ROOM, Kind.NO_GATEWAY),
            body=BatchRequest,
            examples=EXAMPLES,
            parameters=[
                IDEMPOTENCY_HEADER,
                query_parameter(
                    "name", "What it is called in lists.", {"type": "string", "maxLength": _MOST_NAME}
                ),
            ],
        ),
        "A job on each line.",
    ),
)
async def submit(request: Request) -> Response:
    """Stores all jobs of a batch, or, where anything is wrong with any of them, none."""
    services = services_of(request)
    caller = caller_of(request.scope)
    settings = services.settings
    name = query_of(request, "name").get("name")
    if name is not None and (not 1 <= len(name) <= _MOST_NAME or "\x00" in name):
        raise invalid(FieldError("name", "is no name", f"from 1 to {_MOST_NAME} characters"))
    key = key_of(request)
    digest = None if key is None else fingerprint_of(request)
    if digest is not None:
        digest.update(f"{name}\n".encode())
    lines = lines_of(request, most_jobs=settings.max_batch_jobs, most_line_bytes=settings.max_body_bytes)
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            gathered = await gather(services, caller, lines, digest)
    except TimeoutError:
        said = f"the body did not arrive within {settings.upload_timeout_s:g} s"
        raise Problem(Kind.BODY_TIMEOUT, said) from None
    once = None if key is None or digest is None else Once(key, digest.digest())
    stored = await store_batch(services, caller, name, gathered, once)
    headers = {"Location": f"{PATH}/{stored.batch_id}"}
    if stored.created_at is None:
        headers[REPLAYED] = "true"
    return json_answer(await _batch(services, caller.id, stored.batch_id), 202, headers)


@router.get(
    "/batches",
    **operation(
        "List batches",
        {200: (BatchList, "A page of your batches, newest first, without how far they are.")},
        scope=Scope.READ,
        problems=(Kind.INVALID,),
        parameters=PAGE_PARAMETERS,
    ),
)
async def list_batches(request: Request) -> Response:
    """Lists the caller's batches."""
    caller_id = caller_of(request.scope).id
    rows, following = await page_of(request, statements.LIST_BATCHES, {"b_caller_id": caller_id})
    return json_answer({"batches": [summary(row) for row in rows], "next_cursor": following})


@router.get(
    "/batches/{batch_id}",
    **operation(
        "Read a batch",
        {200: (Batch, "How many of its jobs are in which state, and what came of those that ended.")},
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def read(request: Request, batch_id: str) -> Response:
    """Reads a batch."""
    query_of(request)
    services = services_of(request)
    return json_answer(await _batch(services, caller_of(request.scope).id, id_of(batch_id, NO_BATCH)))


@router.get(
    "/batches/{batch_id}/results",
    **ndjson_answer(
        operation(
            "Read the results of a batch",
            {},
            scope=Scope.READ,
            problems=(Kind.NOT_FOUND, Kind.INVALID),
        ),
        BatchResult,
        "Each job that has ended, on a line of its own, in the order of the batch.",
    ),
)
async def read_results(request: Request, batch_id: str) -> Response:
    """Streams what there is so far; jobs that end later are in a later reading."""
    query_of(request)
    services = services_of(request)
    found = id_of(batch_id, NO_BATCH)
    await batch_row(services, caller_of(request.scope).id, found)
    return StreamingResponse(results(services.database, found), media_type=NDJSON)


@router.post(
    "/batches/{batch_id}/cancel",
    **operation(
        "Cancel a batch",
        {200: (Batch, "Each of its jobs has ended, or is cancelled now.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def cancel(request: Request, batch_id: str) -> Response:
    """Ends all jobs of a batch that have not ended. Cancelling again changes nothing."""
    query_of(request)
    services = services_of(request)
    caller_id = caller_of(request.scope).id
    found = id_of(batch_id, NO_BATCH)
    if await services.database.one(statements.CANCEL_BATCH, {"b_id": found, "b_caller_id": caller_id}) is None:
        raise Problem(Kind.NOT_FOUND, NO_BATCH)
    for _ in range(_LOOKS):
        await _cancel_waiting(services, found)
        for row in await services.database.all(statements.LEASED, {"b_batch_id": found}):
            await cancel_job(services, caller_id, row.id, CANCELLED_WITH_BATCH)
        if await services.database.one(statements.ANY_UNFINISHED, {"b_batch_id": found}) is None:
            break
    return json_answer(await _batch(services, caller_id, found))


async def _cancel_waiting(services: Services, batch_id: UUID) -> None:
    values = {"b_batch_id": batch_id, "b_most": _AT_ONCE, "b_reason": CANCELLED_WITH_BATCH}
    while rows := await services.database.all(CANCEL_WAITING, values):
        await services.teller.cancelled(*(row.id for row in rows), was_leased=False)


@router.delete(
    "/batches/{batch_id}",
    status_code=204,
    **operation(
        "Delete a batch",
        {204: (None, "It is gone, with its jobs and everything they left.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.JOB_UNFINISHED, Kind.INVALID),
    ),
)
async def delete(request: Request, batch_id: str) -> Response:
    """Deletes a batch whose jobs have all ended; another is to be cancelled first."""
    query_of(request)
    services = services_of(request)
    found = id_of(batch_id, NO_BATCH)
    await batch_row(services, caller_of(request.scope).id, found)
    if await services.database.one(statements.ANY_UNFINISHED, {"b_batch_id": found}) is not None:
        raise Problem(Kind.JOB_UNFINISHED, "jobs of the batch have not ended; cancel it first, or wait")
    # In portions. What a failure leaves is still a batch, and can be deleted again.
    while rows := await services.database.all(DELETE_OF_BATCH, {"b_batch_id": found, "b_most": _AT_ONCE}):
        await forget_artifacts(services, [artifact for row in rows for artifact in row.artifacts])
    await services.database.run(DELETE_BATCH, {"b_batch_id": found})
    return Response(status_code=204)


async def _batch(services: Services, caller_id: UUID, batch_id: UUID) -> dict[str, object]:
    row = await batch_row(services, caller_id, batch_id)
    return batch(row, await services.database.all(statements.COUNT, {"b_batch_id": batch_id}))


async def batch_row(services: Services, caller_id: UUID, batch_id: UUID) -> Any:
    """The row of a batch of this caller.

    Raises:
        Problem: 404.
    """
    row = await services.database.one(statements.GET_BATCH, {"b_id": batch_id, "b_caller_id": caller_id})
    if row is None:
        raise Problem(Kind.NOT_FOUND, NO_BATCH)
    return row
