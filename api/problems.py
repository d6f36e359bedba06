"""Problem documents (RFC 9457): every answer that is not a success is one.

`Problem` is the only exception that handlers raise on purpose. Its `kind` is one of a closed set, so that a
client can branch on `type`; docs/api.md lists them for users.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:retort:problem:"


class Kind(Enum):
    """Slug, status and title of each problem."""

    BAD_JSON = ("bad-json", 400, "The body is not well-formed JSON")
    BAD_REQUEST = ("bad-request", 400, "The request is malformed")
    UNAUTHORIZED = ("unauthorized", 401, "A valid API key is needed")
    FORBIDDEN = ("forbidden", 403, "This API key is not good for that")
    NOT_FOUND = ("not-found", 404, "There is no such thing")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "This method is not allowed here")
    IN_USE = ("in-use", 409, "It is needed by a job that has not ended")
    RANGE = ("range-not-satisfiable", 416, "There is nothing in this range")
    STORAGE_FULL = ("storage-full", 413, "Your files would take too much room")
    BODY_TIMEOUT = ("body-timeout", 408, "The body took too long to arrive")
    CONFLICT = ("conflict", 409, "There is such a thing already")
    JOB_ENDED = ("job-ended", 409, "The job has ended")
    JOB_UNFINISHED = ("job-unfinished", 409, "The job has not ended")
    BODY_TOO_LARGE = ("body-too-large", 413, "The body is too large")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", 415, "The body must be JSON")
    INVALID = ("invalid", 422, "The request says something that is not allowed")
    IDEMPOTENCY_KEY_REUSED = ("idempotency-key-reused", 422, "This Idempotency-Key made something else")
    RATE_LIMITED = ("rate-limited", 429, "Too many requests")
    QUOTA_EXCEEDED = ("quota-exceeded", 429, "A quota of yours is used up")
    INTERNAL = ("internal", 500, "Something went wrong on our side")
    NO_GATEWAY = ("no-gateway", 503, "No model gateway is configured")
    NO_WEBHOOKS = ("no-webhooks", 503, "Webhooks are not configured")
    OVERLOADED = ("overloaded", 503, "Too many jobs wait already")
    UNAVAILABLE = ("unavailable", 503, "The service cannot answer now")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def type(self) -> str:
        """The URI that names the kind."""
        return TYPE_PREFIX + self.slug


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of a request; `allowed` says what would be right."""

    field: str
    message: str
    allowed: str | list[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as a JSON object."""
        found: dict[str, Any] = {"field": self.field, "message": self.message}
        if self.allowed is not None:
            found["allowed"] = self.allowed
        return found


class Problem(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> Response:
        """The answer to send."""
        document: dict[str, Any] = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = [error.as_dict() for error in self.errors]
        return Response(
            orjson.dumps(document),
            status_code=self.kind.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


def invalid(*errors: FieldError) -> Problem:
    """A 422 whose detail repeats its first error, for people who read only that."""
    first = errors[0]
    detail = f"{first.field}: {first.message}"
    if len(errors) > 1:
        detail += f" (and {len(errors) - 1} more)"
    return Problem(Kind.INVALID, detail, errors=errors)


def unauthorized(detail: str) -> Problem:
    """A 401; it never says whether a key once existed."""
    return Problem(Kind.UNAUTHORIZED, detail, headers={"WWW-Authenticate": 'Bearer realm="retort"'})


def unavailable(detail: str, retry_after_s: int = 2) -> Problem:
    """A 503 that says when to come again."""
    return Problem(Kind.UNAVAILABLE, detail, headers={"Retry-After": str(retry_after_s)})
