"""Deliveries of webhooks: what was sent, what came of it, and sending it again."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api import documents
from api.accounts import id_of, page_of
from api.answers import json_answer
from api.auth import Guarded, caller_of
from api.batch_results import batch_path
from api.openapi import PAGE_PARAMETERS, operation, query_parameter
from api.problems import Kind, Problem
from api.queries import one_of, query_of
from api.routes.webhooks import NO_WEBHOOK, one, webhook_path
from api.services import services_of
from api.webhook_schemas import Delivery, DeliveryList
from domain import webhook_statements as statements
from domain.ids import new_id
from domain.quotas import Scope
from domain.webhooks import TEST_EVENT

router = APIRouter(prefix="/v1", route_class=Guarded)

NO_DELIVERY = "there is no such delivery"
STATES = ["waiting", "delivered", "failed"]


@router.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    **operation(
        "Send a test message",
        {202: (Delivery, "It will be sent; its delivery tells what came of it.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def ping_webhook(request: Request, webhook_id: str) -> Response:
    """Sends the event `webhook.test`, tried like any other; a disabled webhook gets it once enabled."""
    query_of(request)
    found = id_of(webhook_id, NO_WEBHOOK)
    data = {"webhook": str(found)}
    row = await one(request, statements.PING, webhook_id, b_new_id=new_id(), b_event=TEST_EVENT, b_data=data)
    return json_answer(_delivery(row), 202)


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    **operation(
        "List a webhook's deliveries",
        {200: (DeliveryList, "A page of deliveries, newest first.")},
        scope=Scope.READ,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
        parameters=[
            *PAGE_PARAMETERS,
            query_parameter("state", "Only deliveries in this state.", {"type": "string", "enum": STATES}),
        ],
    ),
)
async def list_deliveries(request: Request, webhook_id: str) -> Response:
    """Lists deliveries. What a receiver answered is not kept, but for its status."""
    query = query_of(request, "limit", "cursor", "state")
    mine = {"b_id": id_of(webhook_id, NO_WEBHOOK), "b_caller_id": caller_of(request.scope).id}
    also = {**mine, "b_state": one_of(query, "state", STATES)}
    rows, following = await page_of(request, statements.LIST_DELIVERIES, also, known=("state",))
    if not rows:
        await one(request, statements.GET, webhook_id)
    return json_answer({"deliveries": [_delivery(row) for row in rows], "next_cursor": following})


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    **operation(
        "Deliver again",
        {202: (Delivery, "It is sent as soon as there is room, under the same id; or it is being sent now.")},
        scope=Scope.SUBMIT,
        problems=(Kind.NOT_FOUND, Kind.INVALID),
    ),
)
async def redeliver(request: Request, webhook_id: str, delivery_id: str) -> Response:
    """Begins a delivery anew, whatever came of it."""
    query_of(request)
    values = {
        "b_id": id_of(webhook_id, NO_WEBHOOK),
        "b_caller_id": caller_of(request.scope).id,
        "b_delivery_id": id_of(delivery_id, NO_DELIVERY),
    }
    database = services_of(request).database
    row = await database.one(statements.REDELIVER, values)
    if row is None:
        row = await database.one(statements.GET_DELIVERY, values)
    if row is None:
        raise Problem(Kind.NOT_FOUND, NO_DELIVERY)
    return json_answer(_delivery(row), 202)


def _delivery(row: Any) -> documents.Document:
    return {
        "id": row.id,
        "webhook_id": row.webhook_id,
        "job_id": row.job_id,
        "batch_id": row.batch_id,
        "event": row.event,
        "state": row.state,
        "attempts": row.attempts,
        "next_at": row.next_at if row.state == "waiting" else None,
        "created_at": row.created_at,
        "attempted_at": row.attempted_at,
        "delivered_at": row.delivered_at,
        "last_error": row.last_error,
        "response_status": row.response_status,
        "links": {
            "webhook": webhook_path(row.webhook_id),
            "job": None if row.job_id is None else documents.job_path(row.job_id),
            "batch": None if row.batch_id is None else batch_path(row.batch_id),
        },
    }
