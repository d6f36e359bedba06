"""Where a job came from, as a W3C `traceparent`."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Jobs that are there already are traces of their own."""
    op.add_column("jobs", sa.Column("traceparent", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop it again."""
    op.drop_column("jobs", "traceparent")
