"""Pages of a caller's jobs, by keyset on the id: UUIDv7, so newest first is highest first."""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select
from starlette.requests import Request

from api import documents
from api.filters import FILTERS, condition
from api.listing import list_jobs
from api.problems import FieldError, invalid
from api.queries import one_of, query_of, whole_number
from domain.languages import split_wish
from domain.searching import INDEXED
from domain.states import State, Verdict

DEFAULT_LIMIT = 50
MOST_LIMIT = 200
#: Jobs among which a text of one or two characters is looked for.
NEWEST = 5000
#: Filters that the index on a caller's jobs decides, and that few jobs may pass.
_LISTED = ("state", "verdict", "language", "model")
_VERSION = b"\x01"
_PATH = "/v1/jobs"
_VERSIONED = re.compile(r"[a-z]+(@[a-z0-9.]{1,32})?")


def write_cursor(last: UUID) -> str:
    """A cursor that continues below `last`. Opaque to clients, so that it may change."""
    return base64.urlsafe_b64encode(_VERSION + last.bytes).decode().rstrip("=")


def read_cursor(text: str) -> UUID:
    """The inverse of `write_cursor`.

    Raises:
        Problem: 422, not a cursor of ours.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 17 or raw[:1] != _VERSION:
        raise invalid(FieldError("cursor", "is not a cursor that this service gave"))
    return UUID(bytes=raw[1:])


def _language(query: dict[str, str], known: list[str]) -> str | None:
    """A language from the query, with or without a version.

    Raises:
        Problem: 422 with the languages.
    """
    text = query.get("language")
    if text is not None and not (split_wish(text)[0] in known and _VERSIONED.fullmatch(text)):
        raise invalid(FieldError("language", "is not one of the allowed values", known))
    return text


@dataclass(frozen=True, slots=True)
class Page:
    """What a client asked to see."""

    limit: int
    cursor: str | None
    filters: dict[str, str]
    conditions: dict[str, ColumnElement[bool]]

    @classmethod
    def of(cls, request: Request, languages: Iterable[str]) -> "Page":
        """The page that a request asks for.

        Raises:
            Problem: 422.
        """
        query = query_of(request, "limit", "cursor", *FILTERS)
        one_of(query, "state", [s.value for s in State])
        one_of(query, "verdict", [v.value for v in Verdict])
        _language(query, sorted(languages))
        filters = {name: query[name] for name in FILTERS if name in query}
        return cls(
            limit=whole_number(query, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT),
            cursor=query.get("cursor"),
            filters=filters,
            conditions={name: condition(name, value) for name, value in filters.items()},
        )

    def statement(self, caller_id: UUID, *also: ColumnElement[bool]) -> Select[Any]:
        """Selects one job more than the page shows: whether it exists says whether there is a next page."""
        # No index has texts that are so short.
        short = len(self.filters.get("text", " " * INDEXED)) < INDEXED
        # An index has texts, another the words; only a batch is soonest found by itself.
        apart = _LISTED if "text" in self.filters and "batch" not in self.filters and not short else ()
        return list_jobs(
            caller_id,
            below=None if self.cursor is None else read_cursor(self.cursor),
            most=self.limit + 1,
            listed=[each for name, each in self.conditions.items() if name in apart],
            also=[*(each for name, each in self.conditions.items() if name not in apart), *also],
            newest=NEWEST if short else None,
        )

    def document(self, rows: Sequence[Row[Any]]) -> documents.Document:
        """The page as clients read it."""
        shown = rows[: self.limit]
        following = write_cursor(shown[-1].id) if len(rows) > self.limit else None
        return {
            "jobs": [documents.summary(row) for row in shown],
            "next_cursor": following,
            "links": {
                "self": self._path(self.cursor),
                "next": None if following is None else self._path(following),
            },
        }

    def _path(self, cursor: str | None) -> str:
        query = {**self.filters, "limit": str(self.limit)}
        if cursor is not None:
            query["cursor"] = cursor
        return f"{_PATH}?{urlencode(query)}"
