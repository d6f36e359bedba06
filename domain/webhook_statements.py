"""Statements on webhooks and their deliveries, for their callers. Sending has its own, where it is done."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Executable,
    Integer,
    LargeBinary,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.paging import newest_first
from domain.tables.webhook import webhook_deliveries as deliveries
from domain.tables.webhook import webhooks

#: What is told of a webhook; never its secrets.
WEBHOOK_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(
    column for column in webhooks.c if column.name not in {"secret", "former_secret"}
)
_mine = and_(
    webhooks.c.id == bindparam("b_id", type_=Uuid), webhooks.c.caller_id == bindparam("b_caller_id", type_=Uuid)
)


#: id, caller_id, url, description, events, secret (sealed) -> the webhook.
CREATE: Executable = (
    insert(webhooks)
    .values(
        id=bindparam("b_id", type_=Uuid),
        caller_id=bindparam("b_caller_id", type_=Uuid),
        url=bindparam("b_url", type_=Text),
        description=bindparam("b_description", type_=Text),
        events=bindparam("b_events", type_=ARRAY(Text)),
        secret=bindparam("b_secret", type_=LargeBinary),
    )
    .returning(*WEBHOOK_COLUMNS)
)

#: caller_id -> how many it has.
COUNT: Executable = select(func.count().label("made")).where(
    webhooks.c.caller_id == bindparam("b_caller_id", type_=Uuid)
)

#: id -> the webhook, whoever's it is: for what an Idempotency-Key of its caller made.
READ: Executable = select(*WEBHOOK_COLUMNS).where(webhooks.c.id == bindparam("b_id", type_=Uuid))

#: id, caller_id -> the webhook.
GET: Executable = select(*WEBHOOK_COLUMNS).where(_mine)

#: caller_id, below (an id or null), most -> webhooks, newest first.
LIST: Executable = newest_first(
    select(*WEBHOOK_COLUMNS).where(webhooks.c.caller_id == bindparam("b_caller_id", type_=Uuid)), webhooks.c.id
)


def _change() -> Executable:
    on = cast(bindparam("b_enabled"), Boolean)
    # Who enables it, or sends it elsewhere, starts with a clean slate.
    anew = or_(on, cast(bindparam("b_url"), Text).is_not(None))
    return (
        update(webhooks)
        .where(_mine)
        .values(
            url=func.coalesce(cast(bindparam("b_url"), Text), webhooks.c.url),
            description=func.coalesce(cast(bindparam("b_description"), Text), webhooks.c.description),
            events=func.coalesce(cast(bindparam("b_events"), ARRAY(Text)), webhooks.c.events),
            enabled=func.coalesce(on, webhooks.c.enabled),
            disabled_reason=case((on.is_not(None), null()), else_=webhooks.c.disabled_reason),
            failing_since=case((anew, null()), else_=webhooks.c.failing_since),
        )
        .returning(*WEBHOOK_COLUMNS)
    )


#: id, caller_id; url, description, events, enabled (null: as it is) -> the webhook.
CHANGE: Executable = _change()

#: id, caller_id, secret (sealed), seconds -> the webhook; the secret that it had signs for so long as well.
ROTATE: Executable = (
    update(webhooks)
    .where(_mine)
    .values(
        secret=bindparam("b_secret", type_=LargeBinary),
        former_secret=webhooks.c.secret,
        former_until=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("b_seconds", type_=Integer)),
    )
    .returning(*WEBHOOK_COLUMNS)
)

#: id, caller_id -> the id, if it was there; its deliveries go with it.
DELETE: Executable = delete(webhooks).where(_mine).returning(webhooks.c.id)

# --- deliveries ---------------------------------------------------------------------------------------

DELIVERY_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(
    column for column in deliveries.c if column.name not in {"data", "token", "since"}
)
_of_mine = and_(
    deliveries.c.webhook_id == webhooks.c.id,
    _mine,
)

#: id (of a webhook), caller_id, below, most, state (or null: any) -> its deliveries, newest first.
LIST_DELIVERIES: Executable = newest_first(
    select(*DELIVERY_COLUMNS)
    .join(webhooks, _of_mine)
    .where(
        or_(
            cast(bindparam("b_state"), Text).is_(None),
            deliveries.c.state == cast(bindparam("b_state"), Text),
        ),
    ),
    deliveries.c.id,
)

#: id, caller_id, new_id, event, data -> a delivery of its own, whatever the webhook asked for.
PING: Executable = (
    insert(deliveries)
    .from_select(
        ["id", "webhook_id", "event", "data"],
        select(
            cast(bindparam("b_new_id"), Uuid),
            webhooks.c.id,
            cast(bindparam("b_event"), Text),
            cast(bindparam("b_data", type_=JSONB), JSONB),
        ).where(_mine),
    )
    .returning(*DELIVERY_COLUMNS)
)

_this_one = and_(deliveries.c.id == bindparam("b_delivery_id", type_=Uuid), _of_mine)

#: id, caller_id, delivery_id -> the delivery.
GET_DELIVERY: Executable = select(*DELIVERY_COLUMNS).join(webhooks, _of_mine).where(_this_one)

#: id, caller_id, delivery_id -> the delivery, which begins anew; nothing while it is being sent.
REDELIVER: Executable = (
    update(deliveries)
    .where(_this_one, or_(deliveries.c.token.is_(None), deliveries.c.next_at < func.now()))
    .values(
        state="waiting",
        attempts=0,
        token=None,
        next_at=func.now(),
        since=func.now(),
        delivered_at=None,
        last_error=None,
        response_status=None,
    )
    .returning(*DELIVERY_COLUMNS)
)
