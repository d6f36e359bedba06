"""Batches of jobs, claims that pass over batch work without reading it, usage of deleted jobs."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_now = sa.text("now()")
_queued = sa.text("state = 'queued'")


def _sum(name: str, kind: "sa.types.TypeEngine[Any]") -> "sa.Column[object]":
    return sa.Column(name, kind, server_default="0", nullable=False)


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_batches_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_caller_id", "batches", ["caller_id", "id"])

    op.add_column("jobs", sa.Column("batch_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("batch_index", sa.Integer(), nullable=True))
    # NOT VALID and VALIDATE: the table is not locked while its rows are looked at.
    for name, rule in (
        ("fk_jobs_batch_id", "FOREIGN KEY (batch_id) REFERENCES batches (id) ON DELETE CASCADE"),
        ("ck_jobs_batch_index_iff_batch", "CHECK ((batch_id IS NULL) = (batch_index IS NULL))"),
    ):
        op.execute(f"ALTER TABLE jobs ADD CONSTRAINT {name} {rule} NOT VALID")
        op.execute(f"ALTER TABLE jobs VALIDATE CONSTRAINT {name}")
    # Partial, and of few rows: built in no time.
    batched = sa.text("batch_id IS NOT NULL")
    places = ["batch_id", "batch_index"]
    op.create_index("ix_jobs_batch_id", "jobs", places, unique=True, postgresql_where=batched)
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    order = ["priority", "next_state", "caller_id", "id"]
    op.create_index("ix_jobs_waiting", "jobs", order, postgresql_where=_queued)
    op.drop_index("ix_jobs_queued", table_name="jobs")
    op.create_index("ix_jobs_queued", "jobs", ["priority", "next_state", "rung_at"], postgresql_where=_queued)

    op.create_table(
        "past_usage",
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        _sum("jobs", sa.BigInteger()),
        _sum("runs", sa.BigInteger()),
        _sum("wall_s", sa.Double()),
        _sum("cpu_s", sa.Double()),
        _sum("calls", sa.BigInteger()),
        _sum("input_tokens", sa.BigInteger()),
        _sum("output_tokens", sa.BigInteger()),
        _sum("cost_usd", sa.Numeric()),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_past_usage_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("caller_id", "day", name=op.f("pk_past_usage")),
    )


def downgrade() -> None:
    """Drop them again; the jobs stay, without their batches."""
    op.drop_table("past_usage")
    op.drop_index("ix_jobs_queued", table_name="jobs")
    op.create_index("ix_jobs_queued", "jobs", ["rung_at"], postgresql_where=_queued)
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    op.create_index("ix_jobs_waiting", "jobs", ["caller_id", "id"], postgresql_where=_queued)
    op.drop_index("ix_jobs_batch_id", table_name="jobs")
    op.drop_column("jobs", "batch_index")  # its constraint goes with it
    op.drop_column("jobs", "batch_id")
    op.drop_table("batches")
