"""Keys: for whoever has a key with the scope `admin`."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api import documents
from api.account_schemas import KeyAnswer, KeyList, KeyRequest, RotateRequest
from api.accounts import NO_CALLER, id_of, note, page_of
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.body import read_json
from api.checking import checked
from api.keys import secret
from api.making import KEY_ONCE, make
from api.once import REPLAYED, once_of
from api.openapi import BAD_BODY, IDEMPOTENCY_HEADER, PAGE_PARAMETERS, operation, query_parameter
from api.problems import Kind, Problem
from api.queries import query_of
from api.services import services_of
from domain import accounts
from domain.ids import new_api_key, new_id
from domain.quotas import Scope

router = APIRouter(prefix="/v1", route_class=Guarded)

_NO_KEY = "there is no such key"


@router.post(
    "/keys",
    status_code=201,
    **operation(
        "Create a key",
        {201: (KeyAnswer, "The key, shown this once.")},
        scope=Scope.ADMIN,
        problems=(*BAD_BODY, Kind.IDEMPOTENCY_KEY_REUSED, Kind.NOT_FOUND),
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
    owner = await services.database.one(accounts.GET_CALLER, {"b_id": id_of(wanted.caller_id, NO_CALLER)})
    if owner is None:
        raise Problem(Kind.NOT_FOUND, NO_CALLER)
    key = new_api_key()
    made = {"b_id": new_id(), "b_seconds": wanted.expires_in_s, "b_caller_id": owner.id, **secret(key)}
    made["b_scopes"] = sorted(set(wanted.scopes))
    statements = (accounts.CREATE_KEY, KEY_ONCE, accounts.GET_KEY)
    maker = caller_of(request.scope).id
    row, replayed = await make(services, statements, made, maker, once_of(request, body))
    if row is None:  # its caller went just now
        raise Problem(Kind.NOT_FOUND, NO_CALLER)
    note(request, "key created", row.id)
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
    rows, following = await page_of(request, accounts.LIST_KEYS, ids=["caller_id"])
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
    row = await services_of(request).database.one(accounts.GET_KEY, {"b_id": id_of(key_id, _NO_KEY)})
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
        "b_id": id_of(key_id, _NO_KEY),
        "b_new_id": new_id(),
        "b_seconds": wanted.overlap_s,
        **secret(key),
    }
    row = await services.database.one(accounts.ROTATE_KEY, values)
    if row is None:
        raise Problem(Kind.NOT_FOUND, "there is no such valid key")
    note(request, "key rotated", row.id)
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
    found = id_of(key_id, _NO_KEY)
    row = await services.database.one(accounts.REVOKE_KEY, {"b_id": found})
    if row is None:
        row = await services.database.one(accounts.GET_KEY, {"b_id": found})
    if row is None:
        raise Problem(Kind.NOT_FOUND, _NO_KEY)
    note(request, "key revoked", row.id)
    return json_answer(_key(row))


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
