"""Making callers, keys and webhooks, once for each Idempotency-Key. Jobs have a cheaper way of their own."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Executable, Integer, LargeBinary, Text, Uuid, bindparam, cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError

from api.once import EARLIER, Earlier, Once, insert_once
from api.problems import Kind, Problem, unavailable
from api.services import Services
from domain import accounts
from domain.tables.caller import api_keys, callers
from domain.tables.webhook import webhooks
from domain.webhook_statements import WEBHOOK_COLUMNS

CALLER_ONCE: Executable = insert_once(
    callers,
    {
        "id": bindparam("b_id", type_=Uuid),
        "name": bindparam("b_name", type_=Text),
        "quotas": bindparam("b_quotas", type_=JSONB),
        "most_running": cast(bindparam("b_most_running"), Integer),
    },
    tuple(callers.c),
)

KEY_ONCE: Executable = insert_once(
    api_keys,
    {
        "id": bindparam("b_id", type_=Uuid),
        "caller_id": bindparam("b_caller_id", type_=Uuid),
        "hash": bindparam("b_hash", type_=LargeBinary),
        "hint": bindparam("b_hint", type_=Text),
        "scopes": bindparam("b_scopes", type_=ARRAY(Text)),
        "expires_at": accounts.IN_SECONDS,
    },
    accounts.KEY_COLUMNS,
)

WEBHOOK_ONCE: Executable = insert_once(
    webhooks,
    {
        "id": bindparam("b_id", type_=Uuid),
        "caller_id": bindparam("b_caller_id", type_=Uuid),
        "url": bindparam("b_url", type_=Text),
        "description": bindparam("b_description", type_=Text),
        "events": bindparam("b_events", type_=ARRAY(Text)),
        "secret": bindparam("b_secret", type_=LargeBinary),
    },
    WEBHOOK_COLUMNS,
)


async def make(
    services: Services,
    statements: tuple[Executable, Executable, Executable],
    values: Mapping[str, Any],
    maker: UUID,
    once: Once | None,
) -> tuple[Any | None, bool]:
    """Make something: its row, and whether an earlier request made it. No row: it exists already.

    `statements` are those that make it, make it once, and read it.

    Raises:
        Problem: 422 the key made something else, 404 what it made is gone.
    """
    plainly, but_once, read = statements
    try:
        if once is None:
            return await services.database.one(plainly, values), False
        ours = {"o_caller_id": maker, "o_key": once.key}
        given = {**values, **once.parameters(maker, services.settings.idempotency_hours)}
        row = await services.database.one(but_once, given)
    except IntegrityError:
        return None, False
    if row is not None:
        return row, False
    found = await services.database.one(EARLIER, ours)
    if found is None:
        raise unavailable("nothing was stored, try again")
    made = Earlier(found.made, bytes(found.fingerprint)).check(once)
    row = await services.database.one(read, {"b_id": made})
    if row is None:
        raise Problem(Kind.NOT_FOUND, "what this Idempotency-Key made is gone")
    return row, True
