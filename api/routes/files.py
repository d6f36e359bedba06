"""Files that a caller uploads, to be used by any number of jobs."""

import asyncio
import hashlib
import logging
from typing import IO
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from api import documents
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.file_schemas import File
from api.openapi import operation, query_parameter
from api.problems import FieldError, Kind, Problem, invalid, unavailable
from api.queries import query_of
from api.services import Services, services_of
from api.statements import DELETE_FILE, GET_FILE, INSERT_FILE
from domain.files import file_key, wrong_name
from domain.ids import new_id
from domain.quotas import Scope
from storage.store import Storage, StorageError, spool

router = APIRouter(prefix="/v1", route_class=Guarded)
log = logging.getLogger(__name__)

PATH = "/v1/files"

#: Seconds between two pieces of an upload.
_SILENCE_S = 30.0


@router.post(
    "/files",
    status_code=201,
    **operation(
        "Upload a file",
        {201: (File, "Stored. `Location` says where it is.")},
        scope=Scope.SUBMIT,
        problems=(
            Kind.BAD_REQUEST,
            Kind.BODY_TIMEOUT,
            Kind.BODY_TOO_LARGE,
            Kind.STORAGE_FULL,
            Kind.UNSUPPORTED_MEDIA_TYPE,
            Kind.INVALID,
        ),
        binary_body="The content of the file, as it is.",
        parameters=[
            query_parameter(
                "name", "The file's name in the work folder, unless a job gives another.", {"type": "string"}
            ),
        ],
    ),
)
async def upload(request: Request) -> Response:
    """Takes a file. It is counted while it comes, and nothing is stored until all of it is here."""
    services = services_of(request)
    caller = caller_of(request.scope)
    name = query_of(request, "name").get("name", "file")
    if reason := wrong_name(name):
        raise invalid(FieldError("name", reason))
    _check_kind(request)
    file_id = new_id()
    with spool() as copy:
        size, sha256 = await _receive(request, copy, services.settings.upload_timeout_s)
        try:
            await services.storage.put_async(file_key(file_id), copy)
        except StorageError as e:
            log.exception("an upload was not stored")
            raise unavailable("the storage does not answer; nothing was stored, try again") from e
    values = {"id": file_id, "caller_id": caller.id, "name": name, "size": size, "sha256": sha256}
    most = services.settings.max_stored_bytes
    try:
        stored = await services.database.one(INSERT_FILE, {**values, "most": most})
    except BaseException:
        await _forget(services.storage, file_id)
        raise
    if stored is None:
        await _forget(services.storage, file_id)
        raise Problem(
            Kind.STORAGE_FULL,
            f"all of your files may have at most {most} bytes together; delete some",
            errors=[FieldError("body", "is too large", f"at most {most} bytes in all files")],
        )
    return json_answer(documents.file(stored), 201, {"Location": f"{PATH}/{file_id}"})


def _check_kind(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if encoding.lower() != "identity" or kind.startswith("multipart/") or kind.endswith("-urlencoded"):
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "send the file's bytes as the body, without any encoding or form; its name goes into ?name=",
            errors=[FieldError("Content-Type", "is not that of a file", "application/octet-stream")],
        )


async def _receive(request: Request, copy: IO[bytes], timeout_s: float) -> tuple[int, bytes]:
    """Take in the body: its size and sha256. `BodyLimit` ends it where it is too large."""
    digest = hashlib.sha256()
    size = 0
    stream = request.stream()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                async with asyncio.timeout(_SILENCE_S):
                    piece = await anext(stream, None)
                if piece is None:
                    return size, digest.digest()
                size += len(piece)
                digest.update(piece)
                copy.write(piece)
    except TimeoutError:
        raise Problem(Kind.BODY_TIMEOUT, "the file did not arrive in time") from None
    except ClientDisconnect:
        raise Problem(Kind.BAD_REQUEST, "the connection ended before the file did") from None


async def _forget(storage: Storage, file_id: UUID) -> None:
    """Take back what was stored; if that fails, the sweeper does it."""
    try:
        await storage.delete_async(file_key(file_id))
    except StorageError:
        log.warning("an upload that was refused is left to the sweeper")


@router.get(
    "/files/{file_id}",
    **operation(
        "Read about a file",
        {200: (File, "The file, without its content.")},
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def read(request: Request, file_id: str) -> Response:
    """Tells of an uploaded file."""
    query_of(request)
    values = {"id": _file_id(file_id), "caller_id": caller_of(request.scope).id}
    row = await services_of(request).database.one(GET_FILE, values)
    if row is None:
        raise _no_file()
    return json_answer(documents.file(row))


@router.delete(
    "/files/{file_id}",
    status_code=204,
    **operation(
        "Delete a file",
        {204: (None, "It is gone. Jobs that used it keep what they made of it.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.IN_USE, Kind.INVALID),
    ),
)
async def delete(request: Request, file_id: str) -> Response:
    """Deletes an uploaded file, unless a job that has not ended needs it."""
    query_of(request)
    services: Services = services_of(request)
    found = _file_id(file_id)
    values = {"id": found, "caller_id": caller_of(request.scope).id}
    if await services.database.one(DELETE_FILE, {**values, "uses": [{"file": str(found)}]}) is None:
        if await services.database.one(GET_FILE, values) is None:
            raise _no_file()
        raise Problem(Kind.IN_USE, "a job that has not ended needs this file")
    await _forget(services.storage, found)
    return Response(status_code=204)


def _no_file() -> Problem:
    return Problem(Kind.NOT_FOUND, "there is no such file")


def _file_id(text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        raise _no_file() from None
    if str(found) != text.lower():
        raise _no_file()
    return found
