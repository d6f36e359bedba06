"""JSON answers."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


class JsonResponse(Response):
    """A JSON answer; times are UTC and end in Z."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as bytes."""
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)


def kept_answer(content: Any, if_none_match: str | None) -> Response:
    """An answer that will never be another: with an ETag, and without a body where the client has it."""
    response = JsonResponse(content)
    tag = f'"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"'
    # To be kept by this client alone, and asked for each time: whether it may still see it is decided here.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if if_none_match is not None and _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def _matches(if_none_match: str, tag: str) -> bool:
    # The answer may have been compressed on its way, which makes a strong tag a weak one.
    given = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return "*" in given or tag in given


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return JsonResponse(content, status_code=status, headers=dict(headers or {}))
