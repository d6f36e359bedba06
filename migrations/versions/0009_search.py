"""Webhooks are told of the end of a batch; lists, search and numbers of many jobs without reading all."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# As it was, with the batch that an event is of.
TELL = """
CREATE FUNCTION webhook_tell(
    of_caller uuid, of_job uuid, names text[], told jsonb, of_batch uuid DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (id, webhook_id, job_id, batch_id, event, data)
    SELECT uuidv7(), wanting.id, of_job, of_batch, names[array_upper(names, 1)], told
    FROM (
        SELECT id FROM webhooks
        WHERE caller_id = of_caller AND enabled AND events && names
        FOR KEY SHARE SKIP LOCKED
    ) AS wanting;
END
$$
"""

FORMER_TELL = """
CREATE FUNCTION webhook_tell(of_caller uuid, of_job uuid, names text[], told jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (id, webhook_id, job_id, event, data)
    SELECT uuidv7(), wanting.id, of_job, names[array_upper(names, 1)], told
    FROM (
        SELECT id FROM webhooks
        WHERE caller_id = of_caller AND enabled AND events && names
        FOR KEY SHARE SKIP LOCKED
    ) AS wanting;
END
$$
"""

# However a job of a batch ends, this looks whether it was the last. Two that end at the same time would each
# see the other as unfinished, so where a webhook wants to know they end one after the other. A statement that
# ends many jobs comes here once for each, hence `told_at`.
BATCH_ENDED = """
CREATE FUNCTION batches_tell() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    ended batches;
    counted jsonb;
    judged jsonb;
BEGIN
    IF NOT EXISTS (
        SELECT FROM webhooks WHERE caller_id = NEW.caller_id AND enabled
            AND events && ARRAY['batch', 'batch.finished', 'batch.cancelled']
    ) THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(1148, hashtext(NEW.batch_id::text));
    IF EXISTS (SELECT FROM jobs WHERE batch_id = NEW.batch_id AND finished_at IS NULL) THEN
        RETURN NULL;
    END IF;
    UPDATE batches SET told_at = now() WHERE id = NEW.batch_id AND told_at IS NULL RETURNING * INTO ended;
    IF ended.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT jsonb_object_agg(state, jobs) INTO counted
    FROM (SELECT state, count(*) AS jobs FROM jobs WHERE batch_id = ended.id GROUP BY state) AS each;
    SELECT coalesce(jsonb_object_agg(verdict, jobs), '{}') INTO judged
    FROM (
        SELECT verdict, count(*) AS jobs FROM jobs
        WHERE batch_id = ended.id AND verdict IS NOT NULL GROUP BY verdict
    ) AS each;
    PERFORM webhook_tell(
        ended.caller_id,
        NULL,
        ARRAY['batch', CASE WHEN ended.cancelled_at IS NULL THEN 'batch.finished' ELSE 'batch.cancelled' END],
        jsonb_build_object(
            'id', ended.id,
            'name', ended.name,
            'state', 'ended',
            'total', ended.total,
            'counts', counted,
            'verdicts', judged,
            'links', jsonb_build_object(
                'self', '/v1/batches/' || ended.id, 'results', '/v1/batches/' || ended.id || '/results'
            )
        ),
        ended.id
    );
    RETURN NULL;
END
$$
"""

LISTED = ["state", "verdict", "language", "model", "created_at", "started_at", "finished_at"]

# Large code is searched in its beginning alone. Jobs that have not ended are left out: each move of a job would
# be an entry more.
SEARCHED = "((left(coalesce(code, task), 16384) || ' ') || coalesce(reason, ''))"
SEARCH = (
    f"CREATE INDEX CONCURRENTLY ix_jobs_search ON jobs USING gin ({SEARCHED} gin_trgm_ops, labels) "
    "WHERE finished_at IS NOT NULL"
)
# How often a text occurs: a frequent one is sooner found by looking through the newest jobs.
STATISTICS = f"CREATE STATISTICS jobs_searched ON {SEARCHED} FROM jobs"


def upgrade() -> None:
    """Add all that; batches that have ended already are not told."""
    _indexes()
    _batch_ends()


def _indexes() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    # Jobs come in meanwhile. A try that was broken off leaves an index that is not valid, and may come again.
    with op.get_context().autocommit_block():
        for name in ("ix_jobs_search", "ix_jobs_tasks", "ix_jobs_caller_id_id_new", "ix_attempts_numbers"):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(SEARCH)
        tasks = sa.text("task IS NOT NULL")
        key: list[str] = ["caller_id", "id"]
        at_once: dict[str, Any] = {"postgresql_concurrently": True}
        times = ["wall_s", "sandbox_start_s"]
        op.create_index("ix_attempts_numbers", "attempts", ["job_id"], postgresql_include=times, **at_once)
        op.create_index("ix_jobs_tasks", "jobs", key, postgresql_where=tasks, **at_once)
        op.create_index("ix_jobs_caller_id_id_new", "jobs", key, postgresql_include=LISTED, **at_once)
    op.execute("DROP STATISTICS IF EXISTS jobs_searched")
    op.execute(STATISTICS)
    op.execute("ANALYZE jobs")
    op.drop_index("ix_jobs_caller_id_id", table_name="jobs")
    op.execute("ALTER INDEX ix_jobs_caller_id_id_new RENAME TO ix_jobs_caller_id_id")


def _batch_ends() -> None:
    op.add_column("batches", sa.Column("told_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("webhook_deliveries", sa.Column("batch_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_webhook_deliveries_batch_id"),
        "webhook_deliveries",
        "batches",
        ["batch_id"],
        ["id"],
        ondelete="CASCADE",
    )
    some = sa.text("batch_id IS NOT NULL")
    op.create_index("ix_webhook_deliveries_batch_id", "webhook_deliveries", ["batch_id"], postgresql_where=some)
    unfinished = sa.text("batch_id IS NOT NULL AND finished_at IS NULL")
    op.create_index("ix_jobs_batch_unfinished", "jobs", ["batch_id"], postgresql_where=unfinished)
    op.execute("DROP FUNCTION webhook_tell(uuid, uuid, text[], jsonb)")
    op.execute(TELL)
    op.execute(BATCH_ENDED)
    op.execute(
        "CREATE TRIGGER batches_tell AFTER UPDATE OF state ON jobs FOR EACH ROW "
        "WHEN (NEW.batch_id IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL) "
        "EXECUTE FUNCTION batches_tell()",
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_index("ix_jobs_caller_id_id", table_name="jobs")
    op.create_index("ix_jobs_caller_id_id", "jobs", ["caller_id", "id"])
    op.drop_index("ix_attempts_numbers", table_name="attempts")
    op.drop_index("ix_jobs_tasks", table_name="jobs")
    op.drop_index("ix_jobs_search", table_name="jobs")
    op.execute("DROP STATISTICS jobs_searched")
    op.execute("DROP EXTENSION pg_trgm")
    op.execute("DROP TRIGGER batches_tell ON jobs")
    op.execute("DROP FUNCTION batches_tell()")
    op.execute("DROP FUNCTION webhook_tell(uuid, uuid, text[], jsonb, uuid)")
    op.execute(FORMER_TELL)
    op.drop_index("ix_jobs_batch_unfinished", table_name="jobs")
    op.drop_column("webhook_deliveries", "batch_id")
    op.drop_column("batches", "told_at")
