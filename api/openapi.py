"""The OpenAPI document. Handlers parse by hand, so each route declares here what it takes and answers;
tests hold real answers against what is declared.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from api import filters, paging
from api.all_schemas import MODELS, OPTIONAL
from api.auth import SCOPE_FIELD, is_guarded
from api.batch_lines import NDJSON
from api.links import add_links
from api.problems import MEDIA_TYPE, Kind
from api.schemas import ProblemDocument, Strict
from domain.quotas import Scope
from domain.states import State, Verdict

#: For each status the body, or None where there is none, and what it means.
Answers = Mapping[int, tuple[type[BaseModel] | None, str]]

#: What reading a body may end in.
BAD_BODY = (
    Kind.BAD_JSON,
    Kind.BODY_TIMEOUT,
    Kind.BODY_TOO_LARGE,
    Kind.UNSUPPORTED_MEDIA_TYPE,
    Kind.INVALID,
)

#: Why a job may find no room.
NO_ROOM = (Kind.IDEMPOTENCY_KEY_REUSED, Kind.QUOTA_EXCEEDED, Kind.OVERLOADED)

IDEMPOTENCY_HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key makes one thing only; later ones are answered with it.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}

PREFER_HEADER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: answer when the job has ended, after N seconds at the latest (RFC 7240).",
    "schema": {"type": "string"},
    "example": "wait=10",
}


def query_parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _one_of(values: type[StrEnum]) -> dict[str, Any]:
    return {"type": "string", "enum": [value.value for value in values]}


WAIT_PARAMETER = query_parameter(
    "wait",
    "Seconds to wait for the job's end before answering.",
    {"type": "integer", "minimum": 0, "default": 0},
)
INLINE_PARAMETER = query_parameter(
    "inline",
    "Bytes of artifacts that may come within the answer, as base64; those that do not fit come without.",
    {"type": "integer", "minimum": 0, "default": 0},
)
ATTEMPT_PARAMETER = query_parameter(
    "attempt", "The number of an attempt; the last where it is missing.", {"type": "integer", "minimum": 1}
)


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": _TEXT}


_TEXT = {"type": "string"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
IF_NONE_MATCH_HEADER = _header("If-None-Match", "ETags of answers that the client has.")
RANGE_HEADERS = [
    _header("Range", "`bytes=a-b`: only a part (RFC 9110)."),
    _header("If-Range", "An `ETag`: the part only if it is still the same."),
    IF_NONE_MATCH_HEADER,
]
PAGE_PARAMETERS = [
    query_parameter(
        "limit",
        "How many are on a page.",
        {"type": "integer", "minimum": 1, "maximum": paging.MOST_LIMIT, "default": paging.DEFAULT_LIMIT},
    ),
    query_parameter("cursor", "`next_cursor` of the page before.", {"type": "string"}),
]
MOMENT = {"type": "string", "format": "date-time"}
DAY = {"type": "string", "format": "date"}
FORMAT_PARAMETER = query_parameter(
    "format",
    "`csv`: the rows alone, for spreadsheets.",
    {"type": "string", "enum": ["json", "csv"], "default": "json"},
)
LIST_PARAMETERS = [
    *PAGE_PARAMETERS,
    query_parameter("state", "Only jobs in this state.", _one_of(State)),
    query_parameter("verdict", "Only jobs with this verdict.", _one_of(Verdict)),
    query_parameter("language", "Only jobs in this language.", {"type": "string"}),
    query_parameter("model", "Only tasks whose last program this model wrote.", {"type": "string"}),
    query_parameter("label", "Only jobs with this label: `NAME` or `NAME=VALUE`.", {"type": "string"}),
    query_parameter("batch", "Only jobs of this batch, by its id.", {"type": "string"}),
    query_parameter("since", "Only jobs that were made then or later.", MOMENT),
    query_parameter("until", "Only jobs that were made before.", MOMENT),
    query_parameter(
        "text",
        "Only jobs with this in their code, task or reason, in any case.",
        {"type": "string", "minLength": 1, "maxLength": filters.MOST_TEXT},
    ),
]

EXAMPLES: dict[str, Any] = {
    "code": {"summary": "Run code", "value": {"code": "print(6 * 7)"}},
    "task": {
        "summary": "Have a model write the code, and judge it by tests",
        "value": {
            "task": "Write a function median(numbers) that returns the median of a list of numbers.",
            "check": {"tests": "assert median([3, 1, 2]) == 2\nassert median([4, 1, 2, 3]) == 2.5"},
            "model": "auto",
            "route": "cost",
            "budget_usd": "0.05",
        },
    },
    "limits": {
        "summary": "With limits, input and labels",
        "value": {
            "code": "import sys\nprint(sum(int(n) for n in sys.stdin))",
            "language": "python",
            "limits": {"timeout_s": 5, "memory_mb": 128},
            "stdin": "1\n2\n3\n",
            "labels": {"course": "intro"},
        },
    },
}


def operation(
    summary: str,
    answers: Answers,
    *,
    scope: Scope | None = None,
    problems: Iterable[Kind] = (),
    body: type[BaseModel] | None = None,
    binary_body: str | None = None,
    examples: Mapping[str, Any] | None = None,
    parameters: Iterable[dict[str, Any]] = (),
    binary: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Arguments of a route decorator that declare what the route needs, takes and answers.

    `binary` are answers with bytes of any type.
    """
    responses: dict[int | str, Any] = {
        status: {
            "description": description,
            "content": {} if model is None else {"application/json": {"schema": _ref(model)}},
        }
        for status, (model, description) in answers.items()
    }
    for status, description in (binary or {}).items():
        responses[status] = {"description": description, "content": {"*/*": _BINARY}}
    extra: dict[str, Any] = {"parameters": list(parameters)}
    if scope is not None:
        extra[SCOPE_FIELD] = scope.value
        problems = (*problems, Kind.FORBIDDEN)
    for kind in problems:
        _add_problem(responses, kind)
    if body is not None:
        extra["requestBody"] = {
            "required": body not in OPTIONAL,
            "content": {"application/json": {"schema": _ref(body), "examples": dict(examples or {})}},
        }
    if binary_body is not None:
        content = {"application/octet-stream": _BINARY}
        extra["requestBody"] = {"required": True, "description": binary_body, "content": content}
    plain: dict[str, Any] = {"response_class": Response} if binary else {}  # else it declares JSON
    return {
        **plain,
        "summary": summary,
        "responses": responses,
        "openapi_extra": extra,
        "response_model": None,
    }


def event_stream(declared: dict[str, Any], names: list[str], description: str) -> dict[str, Any]:
    """The same operation, that answers with server-sent events of these names; the schema is that of each."""
    event = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "event": {"type": "string", "enum": names},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "required": ["id", "event", "data"],
    }
    content = {"text/event-stream": {"schema": event}}
    declared["response_class"] = Response  # which has no media type of its own
    declared["responses"][200] = {"description": description, "content": content}
    return declared


def csv_too(declared: dict[str, Any]) -> dict[str, Any]:
    """The same operation, that can also answer with CSV."""
    declared["responses"][200]["content"]["text/csv"] = {"schema": {"type": "string"}}
    return declared


def ndjson_body(declared: dict[str, Any], description: str) -> dict[str, Any]:
    """The same operation, whose body may also be JSON documents on lines of their own."""
    content = declared["openapi_extra"]["requestBody"]["content"]
    content[NDJSON] = {"schema": {"type": "string", "description": description}}
    return declared


def ndjson_answer(declared: dict[str, Any], model: type[BaseModel], description: str) -> dict[str, Any]:
    """The same operation, that answers with JSON documents on lines of their own; `model`: each of them."""
    declared["response_class"] = Response  # which has no media type of its own
    content = {NDJSON: {"schema": _ref(model)}}
    declared["responses"][200] = {"description": description, "content": content}
    return declared


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _add_problem(responses: dict[Any, Any], kind: Kind) -> None:
    line = f"`{kind.type}`: {kind.title}."
    known = responses.get(kind.status)
    if known is not None and MEDIA_TYPE in known["content"]:
        known["description"] += f" {line}"
        return
    responses[kind.status] = {
        "description": line,
        "content": {MEDIA_TYPE: {"schema": _ref(ProblemDocument)}},
    }


def install(app: FastAPI) -> None:
    """Make `app.openapi()` tell what is declared here."""
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(_build(app))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    _, definitions = models_json_schema(
        [(m, "validation" if issubclass(m, Strict) else "serialization") for m in MODELS.values()],
        ref_template="#/components/schemas/{model}",
    )
    document["components"] = {
        "schemas": definitions["$defs"],
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key: `Bearer rt_…`"},
        },
    }
    for path, methods in document["paths"].items():
        for declared in methods.values():
            _complete(path, declared)
    add_links(document["paths"])
    return document


def _complete(path: str, declared: dict[str, Any]) -> None:
    """What is true of every route."""
    everywhere = [Kind.INTERNAL]
    if is_guarded(path):
        declared["security"] = [{"key": []}]
        everywhere += [Kind.UNAUTHORIZED, Kind.RATE_LIMITED, Kind.UNAVAILABLE]
    responses = {int(status): said for status, said in declared["responses"].items()}
    for kind in everywhere:
        _add_problem(responses, kind)
    for said in responses.values():
        said.setdefault("headers", {})["X-Request-ID"] = {"schema": {"type": "string"}}
    declared["responses"] = {str(status): responses[status] for status in sorted(responses)}
