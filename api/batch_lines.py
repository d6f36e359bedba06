"""The jobs in a batch's body: a JSON object with a list of them, or one on each line (NDJSON).

Lines are parsed as they arrive. A JSON body has to be here whole; it is parsed beside the event loop, so that
nobody waits for it.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from api.body import media_type_of, parse_object
from api.problems import FieldError, Kind, Problem, invalid

JSON = "application/json"
NDJSON = "application/x-ndjson"

#: More objects than the parts of a valid job can be.
_OBJECTS_OF_JOB = 110

#: What a body asks for, and where in it that is.
Line = tuple[str, dict[str, Any]]


async def lines_of(request: Request, *, most_jobs: int, most_line_bytes: int) -> AsyncIterator[Line]:
    """Each job as it is asked for, with the place that it has in the body: `jobs.0`, or `lines.1`.

    Raises:
        Problem: 400, 413, 415 or 422; nothing is known of the jobs behind the one that it names.
    """
    kind = media_type_of(request, JSON, NDJSON)
    jobs = _of_lines(request, most_line_bytes) if kind == NDJSON else _of_list(request, most_jobs)
    count = 0
    try:
        async for job in jobs:
            count += 1
            if count > most_jobs:
                raise invalid(FieldError("jobs", "are too many", f"at most {most_jobs}"))
            yield job
    except ClientDisconnect:
        raise Problem(Kind.BAD_REQUEST, "the connection ended before the body did") from None
    if not count:
        raise invalid(FieldError("jobs", "are missing", f"from 1 to {most_jobs}"))


async def _of_list(request: Request, most_jobs: int) -> AsyncIterator[Line]:
    body = await request.body()
    found = await asyncio.to_thread(parse_object, body, most_objects=most_jobs * _OBJECTS_OF_JOB)
    for name in found:
        if name != "jobs":
            raise invalid(FieldError(name[:64], "is not a known field", ["jobs"]))
    jobs = found.get("jobs")
    if not isinstance(jobs, list):
        raise invalid(FieldError("jobs", "must be a list of jobs"))
    for index, job in enumerate(jobs):
        if not isinstance(job, dict):
            raise invalid(FieldError(f"jobs.{index}", "must be a JSON object"))
        yield f"jobs.{index}", job


async def _of_lines(request: Request, most_bytes: int) -> AsyncIterator[Line]:
    number = 0
    async for line in _split(request, most_bytes):
        number += 1
        if not line.strip():
            continue
        try:
            job = parse_object(line)
        except Problem as problem:
            raise at(f"lines.{number}", problem) from None
        yield f"lines.{number}", job


async def _split(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The lines of a body, none longer than `most_bytes`."""
    parts: list[bytes] = []
    size = number = 0

    def grown(part: bytes) -> None:
        nonlocal size
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            where = f"lines.{number + 1}"
            raise Problem(
                Kind.BODY_TOO_LARGE,
                f"{where}: a line may have at most {most_bytes} bytes",
                errors=[FieldError(where, "is too large", f"at most {most_bytes} bytes")],
            )

    async for chunk in request.stream():
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            grown(end)
            yield b"".join(parts)
            number += 1
            parts.clear()
            size = 0
        grown(rest)
    if size:
        yield b"".join(parts)


def at(where: str, problem: Problem) -> Problem:
    """The same problem, told of a place in the body."""
    errors = [FieldError(f"{where}.{each.field}", each.message, each.allowed) for each in problem.errors]
    if problem.kind is Kind.INVALID and errors:
        return invalid(*errors)
    return Problem(problem.kind, f"{where}: {problem.detail}", errors=errors, headers=problem.headers)
