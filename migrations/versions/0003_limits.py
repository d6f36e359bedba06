"""Where output was cut, and the tier that a job runs on and a caller is bound to."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RUNTIME_CHECK = "runtime IN ('runc', 'runsc')"


def upgrade() -> None:
    """Add the columns; all rows that exist ran on runc and are kept whole or cut at their end."""
    op.add_column("attempts", sa.Column("stdout_head", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("stderr_head", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("runtime", sa.Text(), server_default="runc", nullable=False))
    op.create_check_constraint(op.f("ck_jobs_runtime"), "jobs", RUNTIME_CHECK)
    op.add_column("callers", sa.Column("runtime", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_callers_runtime"), "callers", RUNTIME_CHECK)


def downgrade() -> None:
    """Remove them again."""
    op.drop_constraint(op.f("ck_callers_runtime"), "callers", type_="check")
    op.drop_column("callers", "runtime")
    op.drop_constraint(op.f("ck_jobs_runtime"), "jobs", type_="check")
    op.drop_column("jobs", "runtime")
    op.drop_column("attempts", "stderr_head")
    op.drop_column("attempts", "stdout_head")
