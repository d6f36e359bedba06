"""Keys and callers, for who has a key with the scope `admin`."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.account_schemas import CallerRequest, KeyRequest
from api.accounts import NO_CALLER, id_of, note
from api.checking import checked
from api.keys import secret
from api.pages.shell import PageRoute, form_of, go, needs, page
from api.paging import MOST_LIMIT, read_cursor, write_cursor
from api.problems import FieldError, Kind, Problem, invalid
from api.routes import keys
from api.services import Services, services_of
from domain import accounts
from domain.ids import new_api_key, new_id
from domain.quotas import Scope

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_ADMIN = needs(Scope.ADMIN)
_DAY_S = 24 * 3600
_ON_A_PAGE = 50


@router.get("/keys", openapi_extra=_ADMIN)
async def list_keys(request: Request) -> Response:
    """Lists keys, newest first, also those that have ended."""
    return await _page(request)


@router.post("/keys", openapi_extra=_ADMIN)
async def create(request: Request) -> Response:
    """Makes a key of a caller, who is created if there is none of this name, and shows it this once."""
    services = services_of(request)
    form = await form_of(request)
    try:
        owner = checked(CallerRequest, {"name": form.get("caller", "").strip()})
        body: dict[str, Any] = {"caller_id": "", "scopes": [s.value for s in Scope if form.get(f"scope_{s}")]}
        if form.get("days"):
            body["expires_in_s"] = _days(form["days"]) * _DAY_S
        wanted = checked(KeyRequest, body)
        caller_id = await _caller(request, services, owner.name)
        key = new_api_key()
        made = {"b_id": new_id(), "b_seconds": wanted.expires_in_s, "b_caller_id": caller_id, **secret(key)}
        made["b_scopes"] = sorted(set(wanted.scopes))
        row = await services.database.one(accounts.CREATE_KEY, made)
    except Problem as problem:
        errors = problem.errors or [FieldError("", problem.detail)]
        return await _page(request, errors=errors, status=problem.kind.status)
    if row is None:
        raise RuntimeError("an insert that returns nothing")
    note(request, "key created", row.id)
    return await _page(request, secret=key)


@router.post("/keys/{key_id}/rotate", openapi_extra=_ADMIN)
async def rotate(request: Request, key_id: str) -> Response:
    """Makes a key in place of another, which stays good for an hour, and shows it this once."""
    key = new_api_key()
    found = id_of(key_id, "there is no such key")
    values = {"b_id": found, "b_new_id": new_id(), "b_seconds": 3600, **secret(key)}
    row = await services_of(request).database.one(accounts.ROTATE_KEY, values)
    if row is None:
        raise Problem(Kind.NOT_FOUND, "there is no such valid key")
    note(request, "key rotated", row.id)
    return await _page(request, secret=key)


@router.post("/keys/{key_id}/revoke", openapi_extra=_ADMIN)
async def revoke(request: Request, key_id: str) -> Response:
    """Ends a key."""
    await keys.revoke_key(request, key_id)
    return go("/keys")


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise invalid(FieldError("days", "must be a whole number"))
    return int(text)


async def _caller(request: Request, services: Services, name: str) -> Any:
    """The id of the caller of this name."""
    values = {"b_id": new_id(), "b_name": name, "b_quotas": {}, "b_most_running": None}
    row = await services.database.one(accounts.CREATE_CALLER, values)
    if row is not None:
        note(request, "caller created", row.id)
        return row.id
    row = await services.database.one(accounts.FIND_CALLER, {"b_name": name})
    if row is None:
        raise Problem(Kind.NOT_FOUND, NO_CALLER)
    return row.id


async def _page(
    request: Request, *, secret: str | None = None, errors: list[FieldError] | None = None, status: int = 200
) -> Response:
    database = services_of(request).database
    cursor = request.query_params.get("cursor")
    below = None if cursor is None else read_cursor(cursor)
    values = {"b_below": below, "b_caller_id": None, "b_most": _ON_A_PAGE + 1}
    found = list(await database.all(accounts.LIST_KEYS, values))
    callers = await database.all(accounts.LIST_CALLERS, {"b_below": None, "b_most": MOST_LIMIT})
    shown = found[:_ON_A_PAGE]
    more = write_cursor(shown[-1].id) if len(found) > _ON_A_PAGE else None
    return page(
        request,
        "keys.html",
        {
            "keys": [row._asdict() for row in shown],
            "more": more,
            "callers": [row.name for row in callers],
            "scopes": [scope.value for scope in Scope],
            "secret": secret,
            "errors": errors or [],
        },
        status,
    )
