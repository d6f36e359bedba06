"""Tasks: their columns of jobs and attempts, calls of models, caches."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_VERDICTS = (
    "'check_failed', 'compile_error', 'disk_limit', 'error', {}'ok', 'out_of_memory', "
    "'output_limit', 'sandbox_crash', 'signalled', 'timeout'"
)
OLD_VERDICTS = f"verdict IN ({_VERDICTS.format('')})"
NEW_VERDICTS = "verdict IN ({})".format(_VERDICTS.format("'no_code', "))

_CHECKS = {
    "priority": "priority IN ('batch', 'interactive')",
    "outcome": "outcome IN ('failed', 'passed', 'ran')",
    "next_state": "next_state IN ('generating', 'running')",
}

_now = sa.text("now()")
_json = postgresql.JSONB(astext_type=sa.Text())


def _false(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _replace_verdicts(condition: str) -> None:
    # NOT VALID and VALIDATE: the table is not locked while its rows are looked at.
    for table in ("jobs", "attempts"):
        name = f"ck_{table}_verdict"
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def upgrade() -> None:
    """Add what tasks need."""
    for column in (
        sa.Column("priority", sa.Text(), server_default="interactive", nullable=False),
        _false("cache"),
        sa.Column("policy", _json),
        sa.Column("check_by", _json),
        sa.Column("budget_usd", sa.Numeric()),
        sa.Column("next_state", sa.Text(), server_default="running", nullable=False),
        sa.Column("round", sa.Integer(), server_default="0", nullable=False),
        sa.Column("draft", _json),
        sa.Column("outcome", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("cost_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("cost_complete", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        _false("scripted"),
    ):
        op.add_column("jobs", column)
    for name, condition in _CHECKS.items():
        op.execute(f"ALTER TABLE jobs ADD CONSTRAINT ck_jobs_{name} CHECK ({condition}) NOT VALID")
        op.execute(f"ALTER TABLE jobs VALIDATE CONSTRAINT ck_jobs_{name}")
    for column in (
        sa.Column("profile", sa.Text()),
        sa.Column("limits", _json),
        _false("cached"),
        sa.Column("round", sa.Integer()),
        sa.Column("model", sa.Text()),
        sa.Column("choice", _json),
        sa.Column("cost_usd", sa.Numeric()),
        _false("scripted"),
        sa.Column("check_passed", sa.Boolean()),
        sa.Column("note", sa.Text()),
    ):
        op.add_column("attempts", column)
    _replace_verdicts(NEW_VERDICTS)
    op.create_table(
        "model_calls",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("prompt", _json, nullable=False),
        sa.Column("parameters", _json, nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("finish", sa.Text()),
        sa.Column("failure", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.Column("status", sa.Integer()),
        sa.Column("input_tokens", sa.Integer()),
        sa.Column("output_tokens", sa.Integer()),
        sa.Column("cache_read_tokens", sa.Integer()),
        sa.Column("cache_write_tokens", sa.Integer()),
        _false("estimated"),
        sa.Column("price", _json),
        sa.Column("cost_usd", sa.Numeric()),
        sa.Column("latency_s", sa.Double()),
        sa.Column("first_byte_s", sa.Double()),
        _false("cache_hit"),
        _false("scripted"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.CheckConstraint("num_nonnulls(answer, failure) = 1", name=op.f("ck_model_calls_answer_or_failure")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_model_calls_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_calls")),
    )
    op.create_index("ix_model_calls_job_id", "model_calls", ["job_id", "round"])
    op.create_index("ix_model_calls_created_at", "model_calls", ["created_at"])
    _cache("response_cache", sa.Column("answer", _json, nullable=False))
    _cache(
        "execution_cache",
        sa.Column("result", _json, nullable=False),
        sa.Column("stdout", sa.LargeBinary(), nullable=False),
        sa.Column("stderr", sa.LargeBinary(), nullable=False),
    )


def _cache(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        *columns,
        sa.Column("hits", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.ForeignKeyConstraint(
            ["caller_id"], ["callers.id"], name=op.f(f"fk_{name}_caller_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f(f"pk_{name}")),
    )
    op.create_index(f"ix_{name}_caller_id", name, ["caller_id"])
    op.create_index(f"ix_{name}_job_id", name, ["job_id"])
    op.create_index(f"ix_{name}_used_at", name, ["used_at"])


def downgrade() -> None:
    """Drop it again. Jobs that never got a program become programs that failed, unfinished tasks break."""
    for name in ("execution_cache", "response_cache", "model_calls"):
        op.drop_table(name)
    op.execute("ALTER TABLE jobs DISABLE TRIGGER jobs_move")
    for table in ("jobs", "attempts"):
        op.execute(f"UPDATE {table} SET verdict = 'error' WHERE verdict = 'no_code'")  # noqa: S608
    op.execute("ALTER TABLE jobs ENABLE TRIGGER jobs_move")
    _replace_verdicts(OLD_VERDICTS)
    for column in (
        "note",
        "check_passed",
        "scripted",
        "cost_usd",
        "choice",
        "model",
        "round",
        "cached",
        "limits",
        "profile",
    ):
        op.drop_column("attempts", column)
    for name in _CHECKS:
        op.drop_constraint(op.f(f"ck_jobs_{name}"), "jobs")
    for column in (
        "scripted",
        "cost_complete",
        "cost_usd",
        "model",
        "outcome",
        "draft",
        "round",
        "next_state",
        "budget_usd",
        "check_by",
        "policy",
        "cache",
        "priority",
    ):
        op.drop_column("jobs", column)
