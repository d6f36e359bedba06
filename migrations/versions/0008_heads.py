"""How the text files begin that a task's program left."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of files that are there already nothing is known."""
    op.add_column("artifacts", sa.Column("head", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop it again."""
    op.drop_column("artifacts", "head")
