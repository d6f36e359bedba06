"""Callers: for whoever has a key with the scope `admin`."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from api import documents
from api.account_schemas import CallerAnswer, CallerChange, CallerList, CallerRequest
from api.accounts import NO_CALLER, id_of, note, page_of
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.body import read_json
from api.checking import checked
from api.making import CALLER_ONCE, make
from api.once import REPLAYED, once_of
from api.openapi import BAD_BODY, IDEMPOTENCY_HEADER, PAGE_PARAMETERS, operation
from api.problems import FieldError, Kind, Problem, invalid
from api.queries import query_of
from api.services import Services, services_of
from domain import accounts
from domain.ids import new_id
from domain.limits import Limits
from domain.quotas import Quotas, Scope

router = APIRouter(prefix="/v1", route_class=Guarded)

#: Fields of a request whose values can be restricted.
_RESTRICTED = ("profile", "language")


@router.post(
    "/callers",
    status_code=201,
    **operation(
        "Create a caller",
        {201: (CallerAnswer, "It is there, and has no keys yet.")},
        scope=Scope.ADMIN,
        problems=(*BAD_BODY, Kind.IDEMPOTENCY_KEY_REUSED, Kind.CONFLICT),
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
    note(request, "caller created", row.id)
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
    rows, following = await page_of(request, accounts.LIST_CALLERS)
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
    found = id_of(caller_id, NO_CALLER)
    row = await services_of(request).database.one(accounts.GET_CALLER, {"b_id": found})
    if row is None:
        raise Problem(Kind.NOT_FOUND, NO_CALLER)
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
    found = id_of(caller_id, NO_CALLER)
    wanted = checked(CallerChange, await read_json(request, services.settings.body_timeout_s))
    quotas = _quotas(wanted.quotas.model_dump(exclude_none=True), services)
    values = {"b_id": found, "b_quotas": quotas.stored(), "b_most_running": quotas.running}
    row = await services.database.one(accounts.SET_QUOTAS, values)
    if row is None:
        raise Problem(Kind.NOT_FOUND, NO_CALLER)
    note(request, "quotas set", row.id)
    return json_answer(_caller(row))


def _quotas(given: dict[str, Any], services: Services) -> Quotas:
    names = list(Limits.__slots__)
    for name in given.get("ceilings", {}):
        if name not in names:
            raise invalid(FieldError("quotas.ceilings", f"has no limit {name!r}", names))
    offered = {"profile": sorted(services.intake.profiles), "language": sorted(services.offered.languages)}
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
