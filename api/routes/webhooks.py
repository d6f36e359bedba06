"""Webhooks: where a caller wants to be told of the ends of its jobs. A worker sends; here they are kept."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api.accounts import id_of, page_of
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.body import read_json
from api.checking import checked
from api.making import WEBHOOK_ONCE, make
from api.once import REPLAYED, once_of
from api.openapi import BAD_BODY, IDEMPOTENCY_HEADER, PAGE_PARAMETERS, operation
from api.problems import FieldError, Kind, Problem, invalid
from api.queries import query_of
from api.services import Services, services_of
from api.webhook_schemas import SecretRotation, Webhook, WebhookChange, WebhookList, WebhookRequest
from domain import webhook_statements as statements
from domain.ids import new_id
from domain.quotas import Scope
from domain.sealing import Sealer
from domain.webhooks import check_url, new_secret, shown_secret

router = APIRouter(prefix="/v1", route_class=Guarded)

NO_WEBHOOK = "there is no such webhook"
EXAMPLES = {
    "failures": {
        "value": {"url": "https://example.com/retort", "events": ["job.finished.error", "job.broken"]},
    },
}


@router.post(
    "/webhooks",
    status_code=201,
    **operation(
        "Create a webhook",
        {201: (Webhook, "It is there; its secret is shown this once.")},
        scope=Scope.SUBMIT,
        problems=(
            *(*BAD_BODY, Kind.IDEMPOTENCY_KEY_REUSED, Kind.NOT_FOUND),
            *(Kind.QUOTA_EXCEEDED, Kind.NO_WEBHOOKS),
        ),
        body=WebhookRequest,
        examples=EXAMPLES,
        parameters=[IDEMPOTENCY_HEADER],
    ),
)
async def create_webhook(request: Request) -> Response:
    """Makes a webhook. Sent again with the same Idempotency-Key, the answer has everything but the secret."""
    query_of(request)
    services = services_of(request)
    body = await read_json(request, services.settings.body_timeout_s)
    wanted = checked(WebhookRequest, body)
    sealer = _sealer(services)
    _check(services, wanted.url)
    caller = caller_of(request.scope).id
    counted = await services.database.one(statements.COUNT, {"b_caller_id": caller})
    most = services.settings.max_webhooks
    if counted is not None and counted.made >= most:
        raise Problem(Kind.QUOTA_EXCEEDED, f"you may have {most} webhooks; delete one first")
    secret, made = new_secret(), new_id()
    values = {
        "b_id": made,
        "b_caller_id": caller,
        "b_url": wanted.url,
        "b_description": wanted.description,
        "b_events": sorted(set(wanted.events)),
        "b_secret": sealer.seal(secret, made.bytes),
    }
    each = (statements.CREATE, WEBHOOK_ONCE, statements.READ)
    row, replayed = await make(services, each, values, caller, once_of(request, body))
    if row is None:  # the caller went just now
        raise Problem(Kind.NOT_FOUND, "there is no such caller")
    headers = {"Location": f"/v1/webhooks/{row.id}"} | ({REPLAYED: "true"} if replayed else {})
    return json_answer(_webhook(row, None if replayed else secret), 201, headers)


@router.get(
    "/webhooks",
    **operation(
        "List webhooks",
        {200: (WebhookList, "A page of webhooks, newest first, without their secrets.")},
        scope=Scope.READ,
        problems=(Kind.INVALID,),
        parameters=PAGE_PARAMETERS,
    ),
)
async def list_webhooks(request: Request) -> Response:
    """Lists webhooks."""
    mine = {"b_caller_id": caller_of(request.scope).id}
    rows, following = await page_of(request, statements.LIST, mine)
    return json_answer({"webhooks": [_webhook(row) for row in rows], "next_cursor": following})


@router.get(
    "/webhooks/{webhook_id}",
    **operation(
        "Read a webhook",
        {200: (Webhook, "The webhook, without its secret.")},
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def read_webhook(request: Request, webhook_id: str) -> Response:
    """Reads a webhook."""
    query_of(request)
    return json_answer(_webhook(await one(request, statements.GET, webhook_id)))


@router.patch(
    "/webhooks/{webhook_id}",
    **operation(
        "Change a webhook",
        {200: (Webhook, "The webhook as it is now.")},
        scope=Scope.SUBMIT,
        problems=(*BAD_BODY, Kind.NOT_FOUND),
        body=WebhookChange,
        examples={"pause": {"value": {"enabled": False}}},
    ),
)
async def change_webhook(request: Request, webhook_id: str) -> Response:
    """Changes a webhook. What waits for it is sent to where it leads then, once it is enabled."""
    query_of(request)
    services = services_of(request)
    wanted = checked(WebhookChange, await read_json(request, services.settings.body_timeout_s))
    if wanted.url is not None:
        _check(services, wanted.url)
    values = {
        "b_url": wanted.url,
        "b_description": wanted.description,
        "b_events": None if wanted.events is None else sorted(set(wanted.events)),
        "b_enabled": wanted.enabled,
    }
    return json_answer(_webhook(await one(request, statements.CHANGE, webhook_id, **values)))


@router.post(
    "/webhooks/{webhook_id}/rotate",
    **operation(
        "Replace a webhook's secret",
        {200: (Webhook, "The webhook; its new secret is shown this once.")},
        scope=Scope.SUBMIT,
        problems=(*BAD_BODY, Kind.NOT_FOUND, Kind.NO_WEBHOOKS),
        body=SecretRotation,
        examples={"a day": {"value": {"overlap_s": 86400}}},
    ),
)
async def rotate_secret(request: Request, webhook_id: str) -> Response:
    """Gives a webhook a new secret. For `overlap_s` seconds each message is signed with both."""
    query_of(request)
    services = services_of(request)
    body = await read_json(request, services.settings.body_timeout_s, optional=True)
    wanted = checked(SecretRotation, body)
    found, secret = id_of(webhook_id, NO_WEBHOOK), new_secret()
    sealed = _sealer(services).seal(secret, found.bytes)
    row = await one(request, statements.ROTATE, webhook_id, b_secret=sealed, b_seconds=wanted.overlap_s)
    return json_answer(_webhook(row, secret))


@router.delete(
    "/webhooks/{webhook_id}",
    status_code=204,
    **operation(
        "Delete a webhook",
        {204: (None, "It is gone, with its deliveries and what waited for it.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def delete_webhook(request: Request, webhook_id: str) -> Response:
    """Deletes a webhook."""
    query_of(request)
    await one(request, statements.DELETE, webhook_id)
    return Response(status_code=204)


async def one(request: Request, statement: Any, webhook_id: str, **values: Any) -> Any:
    """The row that a statement gives on a webhook of the caller.

    Raises:
        Problem: 404.
    """
    mine = {"b_id": id_of(webhook_id, NO_WEBHOOK), "b_caller_id": caller_of(request.scope).id}
    row = await services_of(request).database.one(statement, {**mine, **values})
    if row is None:
        raise Problem(Kind.NOT_FOUND, NO_WEBHOOK)
    return row


def _sealer(services: Services) -> Sealer:
    if services.sealer is None:
        raise Problem(
            Kind.NO_WEBHOOKS,
            "secrets of webhooks cannot be kept here: the operator has to set RETORT_WEBHOOK_KEY_FILE",
        )
    return services.sealer


def _check(services: Services, url: str) -> None:
    try:
        check_url(url, services.settings.reach, http=services.settings.webhook_http)
    except ValueError as error:
        raise invalid(FieldError("url", str(error), "https://HOST/PATH, on the Internet")) from None


def webhook_path(webhook_id: UUID) -> str:
    """Where a webhook is."""
    return f"/v1/webhooks/{webhook_id}"


def _webhook(row: Any, secret: bytes | None = None) -> dict[str, Any]:
    path = webhook_path(row.id)
    return {
        "id": row.id,
        "url": row.url,
        "description": row.description,
        "events": row.events,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "failing_since": row.failing_since,
        "former_secret_until": row.former_until,
        "created_at": row.created_at,
        "secret": None if secret is None else shown_secret(secret),
        "links": {"self": path, "deliveries": f"{path}/deliveries"},
    }
