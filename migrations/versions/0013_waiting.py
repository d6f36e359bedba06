"""The index of waiting jobs has an order of its own, so that no plan takes another one for it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NAME = "ix_jobs_waiting"
_queued = sa.text("state = 'queued'")


def upgrade() -> None:
    """Make it anew, with callers in descending order."""
    op.drop_index(NAME, table_name="jobs")
    order: list[str | sa.TextClause] = ["priority", "next_state", sa.text("caller_id DESC"), "id"]
    op.create_index(NAME, "jobs", order, postgresql_where=_queued)


def downgrade() -> None:
    """As it was, with callers in the order that the index of all jobs has, too."""
    op.drop_index(NAME, table_name="jobs")
    op.create_index(NAME, "jobs", ["priority", "next_state", "caller_id", "id"], postgresql_where=_queued)
