"""What programs left: listed, and fetched in a way that is safe for a browser."""

import logging
from collections.abc import AsyncIterator
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from api import documents
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.file_schemas import ArtifactList
from api.openapi import ATTEMPT_PARAMETER, RANGE_HEADERS, operation
from api.problems import Kind, Problem, unavailable
from api.queries import query_of, whole_number
from api.ranges import part_of
from api.reading import job_id_of
from api.services import services_of
from api.statements import GET_ARTIFACT, LEAVINGS
from domain.files import artifact_key
from domain.quotas import Scope
from storage.store import Missing, StorageError

router = APIRouter(prefix="/v1", route_class=Guarded)
log = logging.getLogger(__name__)

_NOT_FOUND = "there is no such artifact"

#: A program wrote this: a browser may save it, and do nothing else with it.
_SAFE = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Accept-Ranges": "bytes",
}


@router.get(
    "/jobs/{job_id}/artifacts",
    **operation(
        "List what a job left",
        {200: (ArtifactList, "The artifacts of its last attempt, or of another.")},
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
        parameters=[ATTEMPT_PARAMETER],
    ),
)
async def list_artifacts(request: Request, job_id: str) -> Response:
    """Lists what an attempt left."""
    number = _attempt(request)
    found = job_id_of(job_id)
    row = await services_of(request).database.one(
        LEAVINGS, {"id": found, "caller_id": caller_of(request.scope).id, "number": number}
    )
    if row is None:
        raise Problem(Kind.NOT_FOUND, "there is no such job, or it has no such attempt yet")
    leavings = documents.leavings(found, row._asdict(), number)
    return json_answer({"attempt": row.number, **leavings})


@router.get(
    "/jobs/{job_id}/artifacts/{name:path}",
    **operation(
        "Fetch an artifact",
        {304: (None, "It is still what `If-None-Match` says.")},
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID, Kind.RANGE),
        parameters=[ATTEMPT_PARAMETER, *RANGE_HEADERS],
        binary={200: "The content.", 206: "The part of it that `Range` asked for."},
    ),
)
async def fetch(request: Request, job_id: str, name: str) -> Response:
    """Gives an artifact's content, whole or in part."""
    services = services_of(request)
    values = {"id": job_id_of(job_id), "caller_id": caller_of(request.scope).id, "number": _attempt(request)}
    if "\x00" in name:
        raise Problem(Kind.NOT_FOUND, _NOT_FOUND)
    row = await services.database.one(GET_ARTIFACT, {**values, "name": name})
    if row is None:
        raise Problem(Kind.NOT_FOUND, _NOT_FOUND)
    etag = f'"{bytes(row.sha256).hex()}"'
    headers = {**_SAFE, "ETag": etag, "Content-Disposition": disposition(row.name)}
    if etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    start, end = part_of(request.headers, row.size, etag) or (0, row.size)
    partial = (start, end) != (0, row.size)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.size}"
    headers |= {"Content-Type": row.media_type, "Content-Length": str(end - start)}
    if start == end:
        return Response(status_code=200, headers=headers)
    try:
        pieces = await services.storage.open_async(artifact_key(row.id), start, end)
    except Missing:
        log.error("an artifact's content is missing", extra={"job_id": job_id})
        raise Problem(Kind.NOT_FOUND, _NOT_FOUND) from None
    except StorageError as e:
        log.exception("an artifact could not be read")
        raise unavailable("the storage does not answer; try again") from e
    return StreamingResponse(_sent(pieces), status_code=206 if partial else 200, headers=headers)


async def _sent(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    # A storage that fails midway cuts the connection: Content-Length tells the client.
    async for piece in pieces:
        yield piece


def disposition(name: str) -> str:
    """`Content-Disposition` for a file that a program named (RFC 6266): always an attachment.

    The plain form has ASCII alone, for old clients; the exact name is in the encoded one.
    """
    last = name.rpartition("/")[2]
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%;' else "_" for c in last)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"


def _attempt(request: Request) -> int | None:
    number = whole_number(query_of(request, "attempt"), "attempt", 0, 1, 999_999)
    return number or None
