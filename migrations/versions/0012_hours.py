"""What callers' jobs came to is kept, for hours that are over."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# One of so few locks that a statement which deletes jobs of a whole month takes not too many.
LOCK = """
CREATE FUNCTION hourly_sums_lock(of_caller uuid, of_hour timestamptz, alone boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    which integer := hashtext(of_caller::text || extract(epoch FROM of_hour)::bigint::text) & 255;
BEGIN
    IF alone THEN
        PERFORM pg_advisory_xact_lock(1149, which);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(1149, which);
    END IF;
END
$$
"""

# Sums are kept under the lock, by a look at what is committed: either that has our change, or we find the sums.
FORGET = """
CREATE FUNCTION hourly_sums_forget() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    of_job uuid;
    of_caller uuid;
    of_hour timestamptz;
BEGIN
    IF TG_TABLE_NAME = 'model_calls' THEN
        SELECT id, caller_id INTO of_job, of_caller FROM jobs WHERE id = NEW.job_id;
    ELSIF TG_OP = 'DELETE' THEN
        of_job = OLD.id;
        of_caller = OLD.caller_id;
    ELSE
        of_job = NEW.id;
        of_caller = NEW.caller_id;
    END IF;
    of_hour = date_trunc('hour', uuid_extract_timestamp(of_job), 'UTC');
    PERFORM hourly_sums_lock(of_caller, of_hour, false);
    DELETE FROM hourly_sums WHERE caller_id = of_caller AND hour = of_hour;
    RETURN NULL;
END
$$
"""

# Hours are kept ten minutes after their end at the soonest. One comparison: it is made ready for each insert.
MAY_BE_KEPT = "uuid_extract_timestamp({id}) < now() - interval '5 minutes'"
TRIGGERS = (
    ("hourly_sums_insert", "INSERT", "jobs", "NEW.id"),
    ("hourly_sums_delete", "DELETE", "jobs", "OLD.id"),
    ("hourly_sums_call", "INSERT", "model_calls", "NEW.job_id"),
)


def upgrade() -> None:
    """Add the table and what keeps it right. It fills by itself."""
    op.create_table(
        "hourly_sums",
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sums", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_hourly_sums_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("caller_id", "hour", name=op.f("pk_hourly_sums")),
    )
    op.execute(LOCK)
    op.execute(FORGET)
    for name, event, table, job_id in TRIGGERS:
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW "
            f"WHEN ({MAY_BE_KEPT.format(id=job_id)}) EXECUTE FUNCTION hourly_sums_forget()"
        )


def downgrade() -> None:
    """Drop it again."""
    for name, _, table, _ in TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON {table}")
    op.execute("DROP FUNCTION hourly_sums_forget()")
    op.execute("DROP FUNCTION hourly_sums_lock(uuid, timestamptz, boolean)")
    op.drop_table("hourly_sums")
