"""Jobs, and the batches that they came in."""

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    Uuid,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.states import FINAL_STATES, LEASED_STATES, Outcome, Priority, Runtime, State, Verdict
from domain.tables.base import NOW, metadata, one_of

#: What a text is looked for in: the beginning of code or task, as more would make the index slow to fill, and
#: the reason.
SEARCHED = "((left(coalesce(jobs.code, jobs.task), 16384) || ' ') || coalesce(jobs.reason, ''))"

#: What the index on a caller's jobs holds of each beside its key.
LISTED = ("state", "verdict", "language", "model", "created_at", "started_at", "finished_at")

#: Jobs that came in one request. Deleting one takes its jobs along, so that is left to `domain.removal`.
batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),  # UUIDv7: newest last
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text),
    Column("total", Integer, nullable=False),  # jobs it came with; some may have been deleted since
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("told_at", DateTime(timezone=True)),  # when webhooks were told of its end; None where none wanted it
    Index("ix_batches_caller_id", "caller_id", "id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),  # UUIDv7: newest last
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("state", Text, nullable=False, server_default=State.QUEUED.value),
    Column("verdict", Text),
    Column("reason", Text),  # why a job is broken, or what we know beyond its verdict
    # What was asked for.
    Column("code", Text),
    Column("task", Text),
    Column("language", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("limits", JSONB, nullable=False),  # domain.limits.Limits, resolved
    Column("stdin", LargeBinary),
    Column("args", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("env", JSONB, nullable=False, server_default=text("'{}'")),
    Column("files", JSONB(none_as_null=True)),  # domain.files.Given of each input; null without any
    Column("inline_files", LargeBinary),  # the contents of the inline ones, one after the other
    Column("labels", JSONB, nullable=False, server_default=text("'{}'")),
    Column("reuse", Text, nullable=False, server_default="never"),
    Column("runtime", Text, nullable=False, server_default=Runtime.RUNC.value),
    Column("rerun_of", Uuid, ForeignKey("jobs.id", ondelete="SET NULL")),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE")),
    Column("batch_index", Integer),  # its place in the batch, from 0
    Column("traceparent", Text),  # W3C: the span that it came from; None: the job is a trace of its own
    Column("priority", Text, nullable=False, server_default=Priority.INTERACTIVE.value),
    Column("cache", Boolean, nullable=False, server_default=text("false")),
    # What was asked for, of a task.
    Column("policy", JSONB),  # domain.tasks.Policy: which models, how many attempts
    Column("check_by", JSONB),  # {"tests": code} or {"stdout": text}; None: whatever runs is right
    Column("budget_usd", Numeric),
    # How far a task got.
    Column("next_state", Text, nullable=False, server_default=State.RUNNING.value),  # what a claim moves it to
    Column("round", Integer, nullable=False, server_default="0"),  # times that a model was asked for a program
    Column("draft", JSONB),  # domain.tasks.Draft: the program of this round
    Column("outcome", Text),
    Column("model", Text),  # that wrote the last program
    Column("cost_usd", Numeric, nullable=False, server_default="0"),  # of all calls whose price is known
    Column("cost_complete", Boolean, nullable=False, server_default=text("true")),  # every price was known
    Column("scripted", Boolean, nullable=False, server_default=text("false")),  # a scripted model had a part
    # Where it stands.
    Column("claims", Integer, nullable=False, server_default="0"),
    Column("lease_token", Uuid),
    Column("lease_until", DateTime(timezone=True)),
    Column("leased_by", Text),
    Column("rung_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("started_at", DateTime(timezone=True)),  # first claim
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint(one_of("state", State), name="state"),
    CheckConstraint(one_of("verdict", Verdict), name="verdict"),
    CheckConstraint("reuse IN ('never', 'caller')", name="reuse"),
    CheckConstraint(one_of("runtime", Runtime), name="runtime"),
    CheckConstraint(one_of("priority", Priority), name="priority"),
    CheckConstraint(one_of("outcome", Outcome), name="outcome"),
    CheckConstraint(one_of("next_state", LEASED_STATES), name="next_state"),
    CheckConstraint("num_nonnulls(code, task) = 1", name="code_or_task"),
    CheckConstraint("(verdict IS NOT NULL) = (state = 'finished')", name="verdict_iff_finished"),
    CheckConstraint(
        f"(lease_token IS NOT NULL) = ({one_of('state', LEASED_STATES)})",
        name="lease_iff_leased",
    ),
    CheckConstraint(
        f"(finished_at IS NOT NULL) = ({one_of('state', FINAL_STATES)})",
        name="finished_at_iff_final",
    ),
    # With what lists are narrowed by and what numbers are made of, so that neither reads the rows.
    Index("ix_jobs_caller_id_id", "caller_id", "id", postgresql_include=LISTED),
    Index("ix_jobs_tasks", "caller_id", "id", postgresql_where=text("task IS NOT NULL")),
    # Texts and labels of jobs that have ended (`domain.searching`).
    Index(
        "ix_jobs_search",
        literal_column(SEARCHED.replace("jobs.", "")).label("searched"),
        "labels",
        postgresql_using="gin",
        postgresql_ops={"searched": "gin_trgm_ops"},
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    CheckConstraint("(batch_id IS NULL) = (batch_index IS NULL)", name="batch_index_iff_batch"),
    # By what a message leads to, so that however many batch jobs wait, none is read to find another. In an
    # order that no other index has, so that a claim is never planned to look among all jobs of a caller.
    Index(
        "ix_jobs_waiting",
        "priority",
        "next_state",
        text("caller_id DESC"),
        "id",
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "ix_jobs_batch_id",
        "batch_id",
        "batch_index",
        unique=True,
        postgresql_where=text("batch_id IS NOT NULL"),
    ),
    Index(
        "ix_jobs_batch_unfinished",
        "batch_id",
        postgresql_where=text("batch_id IS NOT NULL AND finished_at IS NULL"),
    ),
    Index("ix_jobs_rerun_of", "rerun_of", postgresql_where=text("rerun_of IS NOT NULL")),
    Index("ix_jobs_queued", "priority", "next_state", "rung_at", postgresql_where=text("state = 'queued'")),
    Index("ix_jobs_leased", "lease_until", postgresql_where=text("lease_token IS NOT NULL")),
)
