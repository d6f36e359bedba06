"""What the routes of callers and of keys have in common."""

import logging
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from fastapi import Request

from api.auth import caller_of
from api.paging import DEFAULT_LIMIT, MOST_LIMIT, read_cursor, write_cursor
from api.problems import FieldError, Kind, Problem, invalid
from api.queries import query_of, whole_number
from api.services import services_of

log = logging.getLogger(__name__)

NO_CALLER = "there is no such caller"


async def page_of(
    request: Request,
    statement: Any,
    given: Mapping[str, Any] | None = None,
    ids: Collection[str] = (),
    known: Collection[str] = (),
) -> tuple[list[Any], str | None]:
    """A page of rows, and the cursor of the next.

    `ids` may be in the query, and so may what is `known` already; `given` are values beside.
    """
    query = query_of(request, "limit", "cursor", *ids, *known)
    most = whole_number(query, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
    cursor = query.get("cursor")
    values: dict[str, Any] = {"b_below": None if cursor is None else read_cursor(cursor), "b_most": most + 1}
    values |= given or {}
    for name in ids:
        values[f"b_{name}"] = _uuid(query[name], name) if name in query else None
    rows = list(await services_of(request).database.all(statement, values))
    return rows[:most], write_cursor(rows[most - 1].id) if len(rows) > most else None


def id_of(text: str, missing: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(Kind.NOT_FOUND, missing) from None


def _uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise invalid(FieldError(name, "is not an id")) from None


def note(request: Request, what: str, which: UUID) -> None:
    """Changes of who may do what are in the log, by whom and of what."""
    caller = caller_of(request.scope)
    log.warning("%s: %s", what, which, extra={"caller_id": str(caller.id)})
