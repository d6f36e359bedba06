"""Scopes and ends of keys, quotas of callers, idempotency keys, reruns."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_now = sa.text("now()")


def _time(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _made(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), server_default=_now, nullable=False)


def upgrade() -> None:
    """Add what the service around the jobs needs."""
    quotas = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("callers", sa.Column("quotas", quotas, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("callers", sa.Column("most_running", sa.Integer(), nullable=True))
    op.add_column("callers", _time("served_at"))
    op.create_check_constraint(op.f("ck_callers_most_running"), "callers", "most_running >= 0")

    usual = sa.text("'{submit,read}'")
    scopes: sa.Column[object] = sa.Column("scopes", sa.ARRAY(sa.Text()), server_default=usual, nullable=False)
    op.add_column("api_keys", scopes)
    op.add_column("api_keys", _time("expires_at"))
    op.add_column("api_keys", _time("last_used_at"))
    allowed = "scopes <@ ARRAY['submit', 'read', 'admin']"
    op.create_check_constraint(op.f("ck_api_keys_scopes"), "api_keys", allowed)
    op.create_index("ix_api_keys_caller_id", "api_keys", ["caller_id"])

    op.create_table(
        "idempotency_keys",
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("made", sa.Uuid(), nullable=False),
        _made("created_at"),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_idempotency_keys_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("caller_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])

    op.add_column("jobs", sa.Column("rerun_of", sa.Uuid(), nullable=True))
    # NOT VALID and VALIDATE: the table is not locked while its rows are looked at.
    op.execute(
        "ALTER TABLE jobs ADD CONSTRAINT fk_jobs_rerun_of FOREIGN KEY (rerun_of) REFERENCES jobs (id) "
        "ON DELETE SET NULL NOT VALID",
    )
    op.execute("ALTER TABLE jobs VALIDATE CONSTRAINT fk_jobs_rerun_of")
    # Partial, and of few rows: built in no time.
    queued = sa.text("state = 'queued'")
    op.create_index("ix_jobs_waiting", "jobs", ["caller_id", "id"], postgresql_where=queued)
    rerun = sa.text("rerun_of IS NOT NULL")
    op.create_index("ix_jobs_rerun_of", "jobs", ["rerun_of"], postgresql_where=rerun)


def downgrade() -> None:
    """Drop it again. Every key that is not revoked can then do everything."""
    op.drop_index("ix_jobs_rerun_of", table_name="jobs")
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    op.drop_column("jobs", "rerun_of")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_api_keys_caller_id", table_name="api_keys")
    for column in ("last_used_at", "expires_at", "scopes"):
        op.drop_column("api_keys", column)
    for column in ("served_at", "most_running", "quotas"):
        op.drop_column("callers", column)
