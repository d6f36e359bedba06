"""Query strings: only what a route knows, each name at most once."""

import re

from starlette.requests import Request

from api.problems import FieldError, invalid

#: What we repeat of an unknown name. Anything else might be an API key in the wrong place.
_HARMLESS = re.compile(r"[a-z_]{1,32}")


def query_of(request: Request, *known: str) -> dict[str, str]:
    """The query parameters.

    Raises:
        Problem: 422, an unknown parameter or one given twice.
    """
    if not request.scope["query_string"]:
        return {}
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        shown = name if _HARMLESS.fullmatch(name) else "(query)"
        if name not in known:
            raise invalid(FieldError(shown, "is not a known query parameter", list(known)))
        if name in found:
            raise invalid(FieldError(shown, "is given twice"))
        found[name] = value
    return found


def whole_number(query: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    """A number from the query.

    Raises:
        Problem: 422 with the allowed range.
    """
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise invalid(FieldError(name, "must be a whole number", f"from {least} to {most}"))
    return int(text)


def wait_of(query: dict[str, str], most: int) -> int:
    """Seconds to wait, from `?wait=N`."""
    return whole_number(query, "wait", 0, 0, most)


def one_of(query: dict[str, str], name: str, allowed: list[str]) -> str | None:
    """A value from the query that must be one of a set.

    Raises:
        Problem: 422 with the set.
    """
    text = query.get(name)
    if text is not None and text not in allowed:
        raise invalid(FieldError(name, "is not one of the allowed values", allowed))
    return text
