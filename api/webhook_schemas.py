"""Webhooks and deliveries, as requests and answers carry them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.schemas import Answer, Strict, Text
from domain.webhooks import EVENTS, MOST_URL, USUAL_EVENTS

#: The longest time for which a replaced secret may go on signing: 30 days.
MOST_OVERLAP_S = 30 * 86400


def _known(event: str) -> str:
    if event not in EVENTS:
        raise PydanticCustomError("event", "must be one of " + ", ".join(EVENTS))
    return event


Event = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(EVENTS)}, mode="validation")
]
Url = Annotated[Text, Field(min_length=1, max_length=MOST_URL, description="Where to: `https://…`.")]
Description = Annotated[Text, Field(max_length=256, description="For you; nothing is done with it.")]
Events = Annotated[
    list[Event],
    Field(
        min_length=1,
        max_length=len(EVENTS),
        description="What it is told of; a name stands for all that begin with it.",
    ),
]


class WebhookRequest(Strict):
    """A new webhook."""

    url: Url
    description: Description = ""
    events: Events = list(USUAL_EVENTS)


class WebhookChange(Strict):
    """What is to change; what is missing stays."""

    url: Url | None = None
    description: Description | None = None
    events: Events | None = None
    enabled: bool | None = Field(default=None, description="False: nothing is sent, and events are not kept.")


class SecretRotation(Strict):
    """How a secret is replaced."""

    overlap_s: int = Field(
        default=86400, ge=0, le=MOST_OVERLAP_S, description="For so long the old secret signs as well."
    )


class WebhookLinks(Answer):
    """Paths of related things."""

    self: str
    deliveries: str


class Webhook(Answer):
    """A webhook. Its secret is in `secret` once, in the answer to the request that made it, and never again."""

    id: UUID
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None = Field(description="Why the service disabled it; null if its caller did.")
    failing_since: datetime | None = Field(description="The first failure after the last success.")
    former_secret_until: datetime | None = Field(description="Until then a replaced secret signs as well.")
    created_at: datetime
    secret: str | None
    links: WebhookLinks


class WebhookList(Answer):
    """Webhooks, newest first."""

    webhooks: list[Webhook]
    next_cursor: str | None


class DeliveryLinks(Answer):
    """Paths of related things."""

    webhook: str
    job: str | None
    batch: str | None


class Delivery(Answer):
    """What became of one event for one webhook; its `id` is what the receiver sees as `webhook-id`."""

    id: UUID
    webhook_id: UUID
    job_id: UUID | None
    batch_id: UUID | None
    event: str
    state: Literal["waiting", "delivered", "failed"]
    attempts: int = Field(description="Since it was made, or last delivered again.")
    next_at: datetime | None = Field(description="When it is tried next; null unless it waits.")
    created_at: datetime
    attempted_at: datetime | None
    delivered_at: datetime | None
    last_error: str | None
    response_status: int | None
    links: DeliveryLinks


class DeliveryList(Answer):
    """Deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None
