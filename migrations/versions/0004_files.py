"""Uploaded files, files of jobs, and what attempts left."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create and extend."""
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_files_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    op.create_index("ix_files_caller_id", "files", ["caller_id"])
    op.create_index("ix_files_created_at", "files", ["created_at"])
    op.create_index("ix_artifacts_created_at", "artifacts", ["created_at"])
    op.add_column("jobs", sa.Column("files", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("jobs", sa.Column("inline_files", sa.LargeBinary(), nullable=True))
    op.add_column("attempts", sa.Column("artifacts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("left_out", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("attempts", sa.Column("results", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    """Take back."""
    for name in ("results", "left_out", "artifacts"):
        op.drop_column("attempts", name)
    for name in ("inline_files", "files"):
        op.drop_column("jobs", name)
    op.drop_index("ix_artifacts_created_at", table_name="artifacts")
    op.drop_index("ix_files_created_at", table_name="files")
    op.drop_index("ix_files_caller_id", table_name="files")
    op.drop_table("files")
