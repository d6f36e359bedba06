"""How long the compiler of an attempt took."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Of attempts that are there already it is not known."""
    op.add_column("attempts", sa.Column("compile_s", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop it again."""
    op.drop_column("attempts", "compile_s")
