"""Where callers want to be told of events, and what is told."""

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.tables.base import NOW, metadata

#: Where callers want to be told of events. Secrets are sealed (`domain.sealing`), each for its row alone.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("events", ARRAY(Text), nullable=False),  # of domain.webhooks.EVENTS
    Column("secret", LargeBinary, nullable=False),
    Column("former_secret", LargeBinary),  # signs as well until `former_until`
    Column("former_until", DateTime(timezone=True)),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("disabled_reason", Text),  # None: by its caller, or it is enabled
    Column("failing_since", DateTime(timezone=True)),  # the first failure after the last success
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    CheckConstraint("(former_secret IS NULL) = (former_until IS NULL)", name="former"),
    Index("ix_webhooks_caller_id", "caller_id"),
)

#: The outbox, and the log of what came of it. Triggers (migrations 0007, 0009) write a row within the statement
#: that ends the job, or the last job of a batch: there is none without a result, and no result without it.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),  # UUIDv7; receivers see it as `webhook-id`
    Column("webhook_id", Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE")),  # None: the event is of no job
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE")),  # None: nor is it of a batch
    Column("event", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("token", Uuid),  # of whoever sends it now; good until `next_at`
    Column("next_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("since", DateTime(timezone=True), nullable=False, server_default=NOW),  # when giving up counts from
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("attempted_at", DateTime(timezone=True)),
    Column("delivered_at", DateTime(timezone=True)),
    Column("last_error", Text),
    Column("response_status", Integer),
    CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name="state"),
    CheckConstraint("(delivered_at IS NOT NULL) = (state = 'delivered')", name="delivered_at"),
    CheckConstraint("token IS NULL OR state = 'waiting'", name="token"),
    Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
    Index("ix_webhook_deliveries_job_id", "job_id", postgresql_where=text("job_id IS NOT NULL")),
    Index("ix_webhook_deliveries_batch_id", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    Index("ix_webhook_deliveries_due", "webhook_id", "next_at", postgresql_where=text("state = 'waiting'")),
    Index("ix_webhook_deliveries_created_at", "created_at"),
)
