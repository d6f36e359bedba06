"""Webhooks, their outbox, and the trigger that fills it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Writes an event for each enabled webhook of a caller that wants it. `names` are the event and all that it is
# a kind of, as in {job, job.finished, job.finished.ok}; the last is its own. Whoever ends something else calls
# it likewise.
#
# The lock waits for nobody: a webhook that is being deleted just now is passed over, as the foreign key would
# otherwise fail the statement that ends a job.
TELL = """
CREATE FUNCTION webhook_tell(of_caller uuid, of_job uuid, names text[], told jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (id, webhook_id, job_id, event, data)
    SELECT uuidv7(), wanting.id, of_job, names[array_upper(names, 1)], told
    FROM (
        SELECT id FROM webhooks
        WHERE caller_id = of_caller AND enabled AND events && names
        FOR KEY SHARE SKIP LOCKED
    ) AS wanting;
END
$$
"""

# However a job ends (finished, cancelled, given up by a sweeper), it is by this update.
JOB_ENDED = """
CREATE FUNCTION jobs_tell() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM webhooks WHERE caller_id = NEW.caller_id) THEN
        PERFORM webhook_tell(
            NEW.caller_id,
            NEW.id,
            array_remove(
                ARRAY['job', 'job.' || NEW.state, 'job.' || NEW.state || '.' || NEW.verdict], NULL
            ),
            jsonb_build_object(
                'id', NEW.id,
                'state', NEW.state,
                'verdict', NEW.verdict,
                'outcome', NEW.outcome,
                'reason', NEW.reason,
                'language', NEW.language,
                'labels', NEW.labels,
                'links', jsonb_build_object('self', '/v1/jobs/' || NEW.id)
            )
        );
    END IF;
    RETURN NULL;
END
$$
"""

_now = sa.text("now()")


def _time(name: str, *, now: bool = False) -> "sa.Column[object]":
    default = _now if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not now)


def upgrade() -> None:
    """Add the tables, and the trigger on jobs."""
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("former_secret", sa.LargeBinary(), nullable=True),
        _time("former_until"),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        _time("failing_since"),
        _time("created_at", now=True),
        sa.CheckConstraint("(former_secret IS NULL) = (former_until IS NULL)", name=op.f("ck_webhooks_former")),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_webhooks_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_caller_id", "webhooks", ["caller_id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token", sa.Uuid(), nullable=True),
        _time("next_at", now=True),
        _time("since", now=True),
        _time("created_at", now=True),
        _time("attempted_at"),
        _time("delivered_at"),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_state")
        ),
        sa.CheckConstraint(
            "(delivered_at IS NOT NULL) = (state = 'delivered')",
            name=op.f("ck_webhook_deliveries_delivered_at"),
        ),
        sa.CheckConstraint("token IS NULL OR state = 'waiting'", name=op.f("ck_webhook_deliveries_token")),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_webhook_deliveries_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    table = "webhook_deliveries"
    op.create_index("ix_webhook_deliveries_webhook_id", table, ["webhook_id", "id"])
    some = sa.text("job_id IS NOT NULL")
    op.create_index("ix_webhook_deliveries_job_id", table, ["job_id"], postgresql_where=some)
    waiting = sa.text("state = 'waiting'")
    op.create_index("ix_webhook_deliveries_due", table, ["webhook_id", "next_at"], postgresql_where=waiting)
    op.create_index("ix_webhook_deliveries_created_at", table, ["created_at"])
    op.execute(TELL)
    op.execute(JOB_ENDED)
    op.execute(
        "CREATE TRIGGER jobs_tell AFTER UPDATE OF state ON jobs FOR EACH ROW "
        "WHEN (NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL) EXECUTE FUNCTION jobs_tell()",
    )


def downgrade() -> None:
    """Drop it again."""
    op.execute("DROP TRIGGER jobs_tell ON jobs")
    op.execute("DROP FUNCTION jobs_tell()")
    op.execute("DROP FUNCTION webhook_tell(uuid, uuid, text[], jsonb)")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
