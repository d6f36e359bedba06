"""The outbox: taking what is due, and recording what came of it. Fenced as jobs are: a token, and an end to it.

Whoever takes a message has it until `next_at`; then it is due again, for anybody, and what the first one
records changes nothing any more. So each message is sent at least once, and seldom twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import create_engine, text

from domain.sessions import OPTIONS

# Of a webhook that fails one message at a time, after all others; of others a few, the next when these are
# done. A row that somebody else is just taking is passed over.
_TAKE = text("""
WITH due AS (
    SELECT taken.id FROM webhooks
    CROSS JOIN LATERAL (
        SELECT id, next_at, row_number() OVER (ORDER BY next_at) AS place FROM (
            SELECT id, next_at FROM webhook_deliveries
            WHERE webhook_id = webhooks.id AND state = 'waiting' AND next_at <= now()
            ORDER BY next_at LIMIT :each
            FOR UPDATE SKIP LOCKED
        ) AS locked
    ) AS taken
    WHERE webhooks.enabled AND (webhooks.failing_since IS NULL OR taken.place = 1) AND NOT EXISTS (
        SELECT FROM webhook_deliveries AS sent
        WHERE sent.webhook_id = webhooks.id AND sent.state = 'waiting' AND sent.next_at > now()
            AND sent.token IS NOT NULL
    )
    ORDER BY webhooks.failing_since IS NOT NULL, taken.next_at LIMIT :most
)
UPDATE webhook_deliveries AS mine
SET token = :token, attempts = attempts + 1, attempted_at = now(),
    next_at = now() + make_interval(secs => :lease_s)
FROM due, webhooks
WHERE mine.id = due.id AND webhooks.id = mine.webhook_id
RETURNING mine.id, mine.webhook_id, mine.event, mine.data, mine.attempts, mine.created_at, webhooks.url,
    webhooks.secret, CASE WHEN webhooks.former_until > now() THEN webhooks.former_secret END AS former_secret
""")

_DELIVERED = text("""
WITH done AS (
    UPDATE webhook_deliveries
    SET state = 'delivered', token = NULL, delivered_at = now(), last_error = NULL, response_status = :status
    WHERE id = :id AND token = :token
    RETURNING webhook_id
)
UPDATE webhooks SET failing_since = NULL FROM done
WHERE webhooks.id = done.webhook_id AND failing_since IS NOT NULL
""")

_FAILED = text("""
WITH failed AS (
    UPDATE webhook_deliveries
    SET state = CASE WHEN since < now() - make_interval(secs => :give_up_s) THEN 'failed' ELSE 'waiting' END,
        token = NULL, next_at = now() + make_interval(secs => :pause_s), last_error = :error,
        response_status = :status
    WHERE id = :id AND token = :token
    RETURNING webhook_id, state
), blamed AS (
    SELECT webhooks.id, failed.state, coalesce(failing_since, now()) AS failing_since, CASE
        WHEN :gone THEN 'the receiver answered that it is gone'
        WHEN failing_since < now() - make_interval(secs => :disable_s) THEN 'it failed for too long'
    END AS reason
    FROM webhooks JOIN failed ON webhooks.id = failed.webhook_id
    FOR NO KEY UPDATE OF webhooks
)
UPDATE webhooks
SET failing_since = blamed.failing_since, enabled = enabled AND blamed.reason IS NULL,
    disabled_reason = CASE WHEN enabled THEN blamed.reason ELSE disabled_reason END
FROM blamed WHERE webhooks.id = blamed.id
RETURNING webhooks.id, blamed.state, blamed.reason
""")

_FORGET = text("""
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE created_at < now() - make_interval(days => :days)
    ORDER BY created_at LIMIT :most FOR UPDATE SKIP LOCKED
)
""")


@dataclass(frozen=True, slots=True)
class Message:
    """A delivery that is ours for a while, with what it takes to send it."""

    id: UUID
    token: UUID
    webhook_id: UUID
    event: str
    data: dict[str, Any]
    attempts: int  # this one included
    created_at: datetime
    url: str
    sealed: Sequence[bytes]  # the secrets to sign with


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failure led to beside another try."""

    webhook_id: UUID
    given_up: bool
    disabled: str | None  # why, if it was


class Outbox:
    """The tables, as whoever sends uses them. Methods may be called from any thread."""

    def __init__(self, database_url: str, *, connections: int = 4) -> None:
        options: dict[str, Any] = {"pool_size": connections, "max_overflow": 0, "pool_timeout": 10}
        options["connect_args"] = {"options": OPTIONS}
        self._engine = create_engine(database_url, isolation_level="AUTOCOMMIT", pool_pre_ping=True, **options)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def take(self, most: int, *, each: int, lease_s: float) -> list[Message]:
        """Up to `most` messages that are due, `each` of one webhook at the most; ours for `lease_s`."""
        token = uuid4()
        values = {"most": most, "each": each, "lease_s": lease_s, "token": token}
        with self._engine.connect() as connection:
            rows = connection.execute(_TAKE, values).all()
        return [
            Message(
                id=row.id,
                token=token,
                webhook_id=row.webhook_id,
                event=row.event,
                data=row.data,
                attempts=row.attempts,
                created_at=row.created_at,
                url=row.url,
                sealed=[bytes(each) for each in (row.secret, row.former_secret) if each is not None],
            )
            for row in rows
        ]

    def delivered(self, message: Message, status: int | None) -> None:
        """Record that it arrived."""
        values = {"id": message.id, "token": message.token, "status": status}
        with self._engine.connect() as connection:
            connection.execute(_DELIVERED, values)

    def failed(
        self,
        message: Message,
        *,
        error: str,
        status: int | None,
        gone: bool,
        pause_s: float,
        give_up_s: float,
        disable_s: float,
    ) -> Failure | None:
        """Record that it did not; None if it was no longer ours."""
        values = {
            "id": message.id,
            "token": message.token,
            "error": error,
            "status": status,
            "gone": gone,
            "pause_s": pause_s,
            "give_up_s": give_up_s,
            "disable_s": disable_s,
        }
        with self._engine.connect() as connection:
            row = connection.execute(_FAILED, values).first()
        return None if row is None else Failure(row.id, row.state == "failed", row.reason)

    def forget(self, *, days: int, most: int) -> int:
        """Remove old deliveries, whatever became of them; how many."""
        with self._engine.connect() as connection:
            return int(connection.execute(_FORGET, {"days": days, "most": most}).rowcount)
