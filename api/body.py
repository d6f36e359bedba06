"""Bodies: counted before they are parsed, parsed strictly, never trusted."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import FieldError, Kind, Problem, invalid

#: More objects than any valid body has: further ones can only be repetitions that the parser dropped.
_MOST_OBJECTS = 2048


class BodyLimit:
    """ASGI middleware: a body of more than `most` bytes ends in a 413, whether it says its length or not.

    `others` are paths with another limit.
    """

    def __init__(self, app: ASGIApp, most: int, others: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._most = most
        self._others = others or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what the application reads."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._others.get(scope["path"], self._most)
        for name, value in scope["headers"]:
            # A length of many digits is too long without being turned into a number.
            if name == b"content-length" and (len(value) > 15 or int(value) > most):
                raise _too_large(most)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > most:
                    raise _too_large(most)
            return message

        await self._app(scope, counted, send)


def _too_large(most: int) -> Problem:
    return Problem(
        Kind.BODY_TOO_LARGE,
        f"the body may have at most {most} bytes",
        errors=[FieldError("body", "is too large", f"at most {most} bytes")],
    )


async def read_json(request: Request, timeout_s: float, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object that a request carries; where it is optional, no body is an empty object.

    Raises:
        Problem: 400, 408, 413, 415 or 422.
    """
    if (
        optional
        and "transfer-encoding" not in request.headers
        and not int(request.headers.get("content-length") or 0)
    ):
        return {}
    media_type_of(request, "application/json")
    try:
        async with asyncio.timeout(timeout_s):
            body = await request.body()
    except TimeoutError:
        raise Problem(Kind.BODY_TIMEOUT, f"the body did not arrive within {timeout_s:g} s") from None
    except ClientDisconnect:
        raise Problem(Kind.BAD_REQUEST, "the connection ended before the body did") from None
    return parse_object(body)


def media_type_of(request: Request, *allowed: str) -> str:
    """Which of the allowed types the body is said to have; their encoding is UTF-8.

    Raises:
        Problem: 415.
    """
    encoding = request.headers.get("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "send the body as it is, without Content-Encoding",
            errors=[FieldError("Content-Encoding", "is not supported", "identity")],
        )
    given = request.headers.get("content-type", "")
    if given in allowed:
        return given
    media_type, *parameters = (part.strip().lower() for part in given.split(";"))
    charsets = [p for p in parameters if p.startswith("charset=") and p not in _UTF_8]
    if media_type not in allowed or charsets:
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            f"send the body as JSON in UTF-8 with `Content-Type: {allowed[0]}`",
            errors=[FieldError("Content-Type", "is not JSON", allowed[0] if len(allowed) == 1 else [*allowed])],
        )
    return media_type


_UTF_8 = ("charset=utf-8", 'charset="utf-8"')


def parse_object(body: bytes, most_objects: int = _MOST_OBJECTS) -> dict[str, Any]:
    """The JSON object in `body`, which has at most so many objects in it.

    The first pass is strict: UTF-8 only, no NaN or Infinity, no lone surrogates, few levels. It
    keeps the last of two equal names silently, so a second one looks for these alone: whoever reads the
    first of them, a proxy say, would have seen another request than we do.

    Raises:
        Problem: 400 not JSON, 422 not an object or a name twice.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(
            Kind.BAD_JSON, f"{error.msg} at line {error.lineno}, column {error.colno}", errors=[]
        ) from None
    if not isinstance(parsed, dict):
        raise invalid(FieldError("body", "must be a JSON object"))
    _refuse_duplicates(body, most_objects)
    return parsed


def _refuse_duplicates(body: bytes, most_objects: int) -> None:
    objects = 0

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal objects
        objects += 1
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise invalid(FieldError(name[:64], "is given twice"))
            names.add(name)
        if objects > most_objects:
            raise invalid(FieldError("body", f"has more than {most_objects} objects"))

    try:
        json.loads(body, object_pairs_hook=look)
    except RecursionError:  # it goes less deep than the first pass
        raise Problem(Kind.BAD_JSON, "it has too many levels", errors=[]) from None
