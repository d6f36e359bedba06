"""What a list of jobs may be narrowed by: from a query's text to conditions on rows."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, or_

from api.problems import FieldError, invalid
from domain.searching import TEXT, found
from domain.tables.job import jobs

FILTERS = ("state", "verdict", "language", "model", "label", "batch", "since", "until", "text")

#: A moment as RFC 3339 has it; a missing zone would be somebody's guess.
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
MOST_TEXT = 200


def condition(name: str, value: str) -> ColumnElement[bool]:
    """The condition that a filter of the query stands for.

    Raises:
        Problem: 422.
    """
    if "\x00" in value:
        raise invalid(FieldError(name, "must not contain NUL characters"))
    match name:
        case "batch":
            return jobs.c.batch_id == _id(value)
        case "label":
            return _label(value)
        case "since":
            return jobs.c.created_at >= moment(name, value)
        case "until":
            return jobs.c.created_at < moment(name, value)
        case "text":
            return _text(value)
        case "language" if "@" not in value:
            return or_(jobs.c.language == value, jobs.c.language.startswith(f"{value}@", autoescape=True))
        case _:
            return jobs.c[name] == value


def _id(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise invalid(FieldError("batch", "is not an id")) from None


def _label(value: str) -> ColumnElement[bool]:
    label, equals, wanted = value.partition("=")
    if not label:
        raise invalid(FieldError("label", "must be NAME or NAME=VALUE"))
    return found(jobs.c.labels.contains({label: wanted}) if equals else jobs.c.labels.has_key(label))


def moment(name: str, value: str) -> datetime:
    """A moment from the query.

    Raises:
        Problem: 422.
    """
    if _MOMENT.fullmatch(value):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    raise invalid(FieldError(name, "is not a time", "as in RFC 3339, with a zone: 2026-11-21T10:00:00Z"))


def _text(value: str) -> ColumnElement[bool]:
    if not 1 <= len(value) <= MOST_TEXT:
        raise invalid(FieldError("text", "has the wrong length", f"from 1 to {MOST_TEXT} characters"))
    return found(TEXT.icontains(value, autoescape=True))
