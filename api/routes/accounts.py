"""Callers and keys: for whoever has a key with the scope `admin`."""

import logging
from dataclasses import asdict
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api import documents
from api.account_schemas import (
    CallerAnswer,
    CallerChange,
    CallerList,
    CallerRequest,
    KeyAnswer,
    KeyList,
    KeyRequest,
    RotateRequest,
)
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.body import read_json
from api.checking import checked
from api.keys import secret
from api.making import CALLER_ONCE, KEY_ONCE, make
from api.once import REPLAYED, once_of
from api.openapi import BAD_BODY, IDEMPOTENCY_HEADER, PAGE_PARAMETERS, operation, query_parameter
from api.paging import DEFAULT_LIMIT, MOST_LIMIT, read_cursor, write_cursor
from api.problems import FieldError, Kind, Problem, invalid
from api.queries import query_of, whole_number
from api.services import Services, services_of
from domain import accounts
from domain.ids import new_api_key, new_id
from domain.limits import Limits
from domain.quotas import Quotas, Scope

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", route_class=Guarded)

_NO_CALLER = "there is no such caller"
_NO_KEY = "there is no such key"
#: Fields of a request whose values can be restricted.
_RESTRICTED = ("profile", "language")
_CREATES = (*BAD_BODY, Kind.IDEMPOTENCY_KEY_REUSED)


@router.post(
    "/callers",
    status_code=201,
    **operation(
        "Create a caller",
        {201: (CallerAnswer, "It is there, and has no keys yet.")},
        scope=Scope.ADMIN,
        problems=(*_CREATES, Kind.CONFLICT),
        body=CallerRequest,
        examples={"team": {"value": {"name": "team-a", "quotas": {"running": 2, "queued": 100}}}},
        parameters=[IDEMPOTENCY_HEADER],
    ),
)
async def create_caller(request: Request) -> Response:
    """Creates a caller. A name that is taken is a conflict, so that two do not become one by accident."""
    query_of(request)
    services = services_of(request)
    body = await read_json(request, services.settings.body_timeout_s)
    wanted = checked(CallerRequest, body)
    quotas = _quotas(wanted.quotas.model_dump(exclude_none=True), services)
    values = {
        "b_id": new_id(),
        "b_name": wanted.name,
        "b_quotas": quotas.stored(),
        "b_most_running": quotas.running,
    }
    statements = (accounts.CREATE_CALLER, CALLER_ONCE, accounts.GET_CALLER)
    maker = caller_of(request.scope).id
    row, replayed = await make(services, statements, values, maker, once_of(request, body))
    if row is None:
        raise Problem(Kind.CONFLICT, "there is a caller of this name already")
    _note(request, "caller created", row.id)
    headers = {"Location": f"/v1/callers/{row.id}"} | ({REPLAYED: "true"} if replayed else {})
    return json_answer(_caller(row), 201, headers)


@router.get(
    "/callers",
    **operation(
        "List callers",
        {200: (CallerList, "A page of callers, newest first.")},
        scope=Scope.ADMIN,
        problems=(Kind.INVALID,),
        parameters=PAGE_PARAMETERS,
    ),
)
async def list_callers(request: Request) -> Response:
    """Lists callers."""
    rows, following = await _page(request, accounts.LIST_CALLERS)
    return json_answer({"callers": [_caller(row) for row in rows], "next_cursor": following})


@router.get(
    "/callers/{caller_id}",
    **operation(
        "Read a caller",
        {200: (CallerAnswer, "The caller and its quotas.")},
        scope=Scope.ADMIN,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def read_caller(request: Request, caller_id: str) -> Response:
    """Reads a caller."""
    query_of(request)
    found = _id(caller_id, _NO_CALLER)
    row = await services_of(request).database.one(accounts.GET_CALLER, {"b_id": found})
    if row is None:
        raise Problem(Kind.NOT_FOUND, _NO_CALLER)
    return json_answer(_caller(row))


@router.put(
    "/callers/{caller_id}/quotas",
    **operation(
        "Set a caller's quotas",
        {200: (CallerAnswer, "The caller; the quotas hold everywhere within two seconds.")},
        scope=Scope.ADMIN,
        problems=(*BAD_BODY, Kind.NOT_FOUND),
        body=CallerChange,
        examples={"less": {"value": {"quotas": {"requests_per_s": 10, "burst": 20}}}},
    ),
)
async def set_quotas(request: Request, caller_id: str) -> Response:
    """Sets all quotas of a caller: what is not named becomes the service's default."""
    query_of(request)
    services = services_of(request)
    found = _id(caller_id, _NO_CALLER)
    wanted = checked(CallerChange, await read_json(request, services.settings.body_timeout_s))
    quotas = _quotas(wanted.quotas.model_dump(exclude_none=True), services)
    values = {"b_id": found, "b_quotas": quotas.stored(), "b_most_running": quotas.running}
    row = await services.database.one(accounts.SET_QUOTAS, values)
    if row is None:
        raise Problem(Kind.NOT_FOUND, _NO_CALLER)
    _note(request, "quotas set", row.id)
    return json_answer(_caller(row))


@router.post(
    "/keys",
    status_code=201,
    **operation(
        "Create a key",
        {201: (KeyAnswer, "The key, shown this once.")},
        scope=Scope.ADMIN,
        problems=(*_CREATES, Kind.NOT_FOUND),
        body=KeyRequest,
        examples={"reader": {"value": {"caller_id": str(UUID(int=0)), "scopes": ["read"]}}},
        parameters=[IDEMPOTENCY_HEADER],
    ),
)
async def create_key(request: Request) -> Response:
    """Makes a key. Sent again with the same Idempotency-Key, the answer has everything but the secret."""
    query_of(request)
    services = services_of(request)
    body = await read_json(request, services.settings.body_timeout_s)
    wanted = checked(KeyRequest, body)
    owner = await services.database.one(accounts.GET_CALLER, {"b_id": _id(wanted.caller_id, _NO_CALLER)})
    if owner is None:
        raise Problem(Kind.NOT_FOUND, _NO_CALLER)
    key = new_api_key()
    made = {"b_id": new_id(), "b_seconds": wanted.expires_in_s, "b_caller_id": owner.id, **secret(key)}
    made["b_scopes"] = sorted(set(wanted.scopes))
    statements = (accounts.CREATE_KEY, KEY_ONCE, accounts.GET_KEY)
    maker = caller_of(request.scope).id
    row, replayed = await make(services, statements, made, maker, once_of(request, body))
    if row is None:  # its caller went just now
        raise Problem(Kind.NOT_FOUND, _NO_CALLER)
    _note(request, "key created", row.id)
    headers = {"Location": f"/v1/keys/{row.id}"} | ({REPLAYED: "true"} if replayed else {})
    return json_answer(_key(row, None if replayed else key), 201, headers)


@router.get(
    "/keys",
    **operation(
        "List keys",
        {200: (KeyList, "A page of keys, newest first, without their secret parts.")},
        scope=Scope.ADMIN,
        problems=(Kind.INVALID,),
        parameters=[*PAGE_PARAMETERS, query_parameter("caller_id", "Only this caller's.", {"type": "string"})],
    ),
)
async def list_keys(request: Request) -> Response:
    """Lists keys, also those that have ended."""
    rows, following = await _page(request, accounts.LIST_KEYS, "caller_id")
    return json_answer({"keys": [_key(row) for row in rows], "next_cursor": following})


@router.get(
    "/keys/{key_id}",
    **operation(
        "Read a key",
        {200: (KeyAnswer, "The key, without its secret part.")},
        scope=Scope.ADMIN,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def read_key(request: Request, key_id: str) -> Response:
    """Reads a key."""
    query_of(request)
    row = await services_of(request).database.one(accounts.GET_KEY, {"b_id": _id(key_id, _NO_KEY)})
    if row is None:
        raise Problem(Kind.NOT_FOUND, _NO_KEY)
    return json_answer(_key(row))


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    **operation(
        "Replace a key",
        {201: (KeyAnswer, "The new key, shown this once.")},
        scope=Scope.ADMIN,
        problems=(*BAD_BODY, Kind.NOT_FOUND),
        body=RotateRequest,
        examples={"a day": {"value": {"overlap_s": 86400}}},
    ),
)
async def rotate_key(request: Request, key_id: str) -> Response:
    """Makes a key of the same caller and scopes, for as long as the old one was made for; the old one ends."""
    query_of(request)
    services = services_of(request)
    wanted = checked(RotateRequest, await read_json(request, services.settings.body_timeout_s, optional=True))
    key = new_api_key()
    values = {
        "b_id": _id(key_id, _NO_KEY),
        "b_new_id": new_id(),
        "b_seconds": wanted.overlap_s,
        **secret(key),
    }
    row = await services.database.one(accounts.ROTATE_KEY, values)
    if row is None:
        raise Problem(Kind.NOT_FOUND, "there is no such valid key")
    _note(request, "key rotated", row.id)
    return json_answer(_key(row, key), 201, {"Location": f"/v1/keys/{row.id}"})


@router.delete(
    "/keys/{key_id}",
    status_code=200,
    **operation(
        "Revoke a key",
        {200: (KeyAnswer, "The key, which is refused everywhere within two seconds.")},
        scope=Scope.ADMIN,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def revoke_key(request: Request, key_id: str) -> Response:
    """Revokes a key; once more does no harm."""
    query_of(request)
    services = services_of(request)
    found = _id(key_id, _NO_KEY)
    row = await services.database.one(accounts.REVOKE_KEY, {"b_id": found})
    if row is None:
        row = await services.database.one(accounts.GET_KEY, {"b_id": found})
    if row is None:
        raise Problem(Kind.NOT_FOUND, _NO_KEY)
    _note(request, "key revoked", row.id)
    return json_answer(_key(row))


async def _page(request: Request, statement: Any, *ids: str) -> tuple[list[Any], str | None]:
    """A page of rows, and the cursor of the next."""
    query = query_of(request, "limit", "cursor", *ids)
    most = whole_number(query, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
    cursor = query.get("cursor")
    values: dict[str, Any] = {"b_below": None if cursor is None else read_cursor(cursor), "b_most": most + 1}
    for name in ids:
        values[f"b_{name}"] = _uuid(query[name], name) if name in query else None
    rows = list(await services_of(request).database.all(statement, values))
    return rows[:most], write_cursor(rows[most - 1].id) if len(rows) > most else None


def _quotas(given: dict[str, Any], services: Services) -> Quotas:
    names = list(Limits.__slots__)
    for name in given.get("ceilings", {}):
        if name not in names:
            raise invalid(FieldError("quotas.ceilings", f"has no limit {name!r}", names))
    offered = {"profile": sorted(services.intake.profiles), "language": sorted(services.intake.languages)}
    for name, values in given.get("allowed", {}).items():
        if name not in _RESTRICTED:
            raise invalid(FieldError("quotas.allowed", "has an unknown field", list(_RESTRICTED)))
        if not set(values) <= set(offered[name]):
            raise invalid(FieldError(f"quotas.allowed.{name}", "names what is not offered", offered[name]))
    return Quotas(**given)


def _caller(row: Any) -> documents.Document:
    path = f"/v1/callers/{row.id}"
    return {
        "id": row.id,
        "name": row.name,
        "created_at": row.created_at,
        "quotas": asdict(Quotas.of(row.quotas, row.most_running)),
        "links": {"self": path, "keys": f"/v1/keys?caller_id={row.id}"},
    }


def _key(row: Any, key: str | None = None) -> documents.Document:
    return {
        "id": row.id,
        "caller_id": row.caller_id,
        "hint": row.hint,
        "scopes": row.scopes,
        "state": row.state,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
        "key": key,
        "links": {"self": f"/v1/keys/{row.id}", "caller": f"/v1/callers/{row.caller_id}"},
    }


def _id(text: str, missing: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(Kind.NOT_FOUND, missing) from None


def _uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise invalid(FieldError(name, "is not an id")) from None


def _note(request: Request, what: str, which: UUID) -> None:
    """Changes of who may do what are in the log, by whom and of what."""
    caller = caller_of(request.scope)
    log.warning("%s: %s", what, which, extra={"caller_id": str(caller.id)})
