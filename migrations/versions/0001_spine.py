"""Callers, keys, jobs, attempts, artifacts, workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


#: domain.states.MOVES as it was when this migration was written; a test compares the two.
MOVES = {
    "queued": ("generating", "running", "cancelled", "broken"),
    "generating": ("queued", "running", "finished", "cancelled", "broken"),
    "running": ("queued", "generating", "finished", "cancelled", "broken"),
}

_allowed = " OR ".join(
    f"(OLD.state = '{old}' AND NEW.state IN ({', '.join(repr(n) for n in new)}))" for old, new in MOVES.items()
)

VERDICT_CHECK = (
    "verdict IN ('check_failed', 'compile_error', 'disk_limit', 'error', 'ok', 'out_of_memory', "
    "'output_limit', 'sandbox_crash', 'signalled', 'timeout')"
)

# A worker that lost its lease, a stale snapshot or a slip of ours cannot rewrite a result: the database
# itself refuses. Only a move or a new verdict is looked at, so heartbeats do not pay for it.
JOBS_MOVE = f"""
CREATE FUNCTION jobs_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = NEW.state AND OLD.verdict IS NOT DISTINCT FROM NEW.verdict THEN
        RETURN NEW;
    END IF;
    IF {_allowed} THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'job % cannot move from % to %', OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_move';
END
$$
"""


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "callers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callers")),
        sa.UniqueConstraint("name", name=op.f("uq_callers_name")),
    )
    op.create_table(
        "workers",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("why_not", sa.Text(), nullable=True),
        sa.Column(
            "facts", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_workers")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_api_keys_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("limits", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("stdin", sa.LargeBinary(), nullable=True),
        sa.Column("args", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "env", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column(
            "labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("reuse", sa.Text(), server_default="never", nullable=False),
        sa.Column("claims", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.Column("rung_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('broken', 'cancelled', 'finished'))",
            name=op.f("ck_jobs_finished_at_iff_final"),
        ),
        sa.CheckConstraint(
            "(lease_token IS NOT NULL) = (state IN ('generating', 'running'))",
            name=op.f("ck_jobs_lease_iff_leased"),
        ),
        sa.CheckConstraint(
            "(verdict IS NOT NULL) = (state = 'finished')", name=op.f("ck_jobs_verdict_iff_finished")
        ),
        sa.CheckConstraint("reuse IN ('never', 'caller')", name=op.f("ck_jobs_reuse")),
        sa.CheckConstraint(
            "state IN ('broken', 'cancelled', 'finished', 'generating', 'queued', 'running')",
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint(
            VERDICT_CHECK,
            name=op.f("ck_jobs_verdict"),
        ),
        sa.CheckConstraint("num_nonnulls(code, task) = 1", name=op.f("ck_jobs_code_or_task")),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f("fk_jobs_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_caller_id_id", "jobs", ["caller_id", "id"], unique=False)
    op.create_index(
        "ix_jobs_leased",
        "jobs",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("lease_token IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_queued", "jobs", ["rung_at"], unique=False, postgresql_where=sa.text("state = 'queued'")
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_artifacts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("job_id", "attempt", "name", name=op.f("uq_artifacts_job_id")),
    )
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("stdout", sa.LargeBinary(), server_default=sa.text("''"), nullable=False),
        sa.Column("stderr", sa.LargeBinary(), server_default=sa.text("''"), nullable=False),
        sa.Column("stdout_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stderr_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("wall_s", sa.Double(), nullable=True),
        sa.Column("cpu_s", sa.Double(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("oom_kills", sa.Integer(), nullable=True),
        sa.Column("sandbox_start", sa.Text(), nullable=True),
        sa.Column("sandbox_start_s", sa.Double(), nullable=True),
        sa.Column("sandbox_reused", sa.Boolean(), nullable=True),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("image_digest", sa.Text(), nullable=True),
        sa.Column("runtime", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sandbox_start IN ('warm', 'cold')", name=op.f("ck_attempts_sandbox_start")),
        sa.CheckConstraint(
            VERDICT_CHECK,
            name=op.f("ck_attempts_verdict"),
        ),
        sa.CheckConstraint("num_nonnulls(verdict, failure) = 1", name=op.f("ck_attempts_verdict_or_failure")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_attempts")),
    )
    op.execute(JOBS_MOVE)
    op.execute(
        "CREATE TRIGGER jobs_move BEFORE UPDATE OF state, verdict ON jobs "
        "FOR EACH ROW EXECUTE FUNCTION jobs_move()",
    )


def downgrade() -> None:
    """Drop everything."""
    op.drop_table("attempts")
    op.drop_table("artifacts")
    op.drop_index("ix_jobs_queued", table_name="jobs", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("ix_jobs_leased", table_name="jobs", postgresql_where=sa.text("lease_token IS NOT NULL"))
    op.drop_index("ix_jobs_caller_id_id", table_name="jobs")
    op.drop_table("jobs")
    op.execute("DROP FUNCTION jobs_move()")
    op.drop_table("api_keys")
    op.drop_table("workers")
    op.drop_table("callers")
