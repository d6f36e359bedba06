"""The tables. Migrations build them; a test finds no drift between the two.

All times are the database's own clock (`now()`), which is also the only clock that leases use.
"""

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    event,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.states import FINAL_STATES, LEASED_STATES, Outcome, Priority, Runtime, State, Verdict

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)

#: Trigrams, for searching; every PostgreSQL has the extension among its own.
_trigrams = DDL("CREATE EXTENSION IF NOT EXISTS pg_trgm")  # type: ignore[no-untyped-call]
event.listen(metadata, "before_create", _trigrams)


def _one_of(column: str, values: Iterable[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(v.value) for v in sorted(values))})"


_now = func.now()

#: What a text is looked for in: the beginning of code or task, as more would make the index slow to fill, and
#: the reason.
SEARCHED = "((left(coalesce(jobs.code, jobs.task), 16384) || ' ') || coalesce(jobs.reason, ''))"

#: What the index on a caller's jobs holds of each beside its key.
LISTED = ("state", "verdict", "language", "model", "created_at", "started_at", "finished_at")

callers = Table(
    "callers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("runtime", Text),  # the only tier this caller's jobs may run on; None: any
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("quotas", JSONB, nullable=False, server_default=text("'{}'")),  # domain.quotas.Quotas
    Column("most_running", Integer),  # jobs at a time; None: as many as there is room for
    Column("served_at", DateTime(timezone=True)),  # when the fair claim last chose it
    UniqueConstraint("name"),
    CheckConstraint(_one_of("runtime", Runtime), name="runtime"),
    CheckConstraint("most_running >= 0", name="most_running"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("hash", LargeBinary, nullable=False),  # domain.ids.hash_api_key
    Column("hint", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("revoked_at", DateTime(timezone=True)),
    Column("scopes", ARRAY(Text), nullable=False, server_default=text("'{submit,read}'")),
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),  # to the minute: written rarely
    UniqueConstraint("hash"),
    CheckConstraint("scopes <@ ARRAY['submit', 'read', 'admin']", name="scopes"),
    Index("ix_api_keys_caller_id", "caller_id"),
)

#: Where callers want to be told of events. Secrets are sealed (`domain.sealing`), each for its row alone.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("events", ARRAY(Text), nullable=False),  # of domain.webhooks.EVENTS
    Column("secret", LargeBinary, nullable=False),
    Column("former_secret", LargeBinary),  # signs as well until `former_until`
    Column("former_until", DateTime(timezone=True)),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("disabled_reason", Text),  # None: by its caller, or it is enabled
    Column("failing_since", DateTime(timezone=True)),  # the first failure after the last success
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    CheckConstraint("(former_secret IS NULL) = (former_until IS NULL)", name="former"),
    Index("ix_webhooks_caller_id", "caller_id"),
)

#: The outbox, and the log of what came of it. Triggers (migrations 0007, 0009) write a row within the statement
#: that ends the job, or the last job of a batch: there is none without a result, and no result without it.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),  # UUIDv7; receivers see it as `webhook-id`
    Column("webhook_id", Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE")),  # None: the event is of no job
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE")),  # None: nor is it of a batch
    Column("event", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("token", Uuid),  # of whoever sends it now; good until `next_at`
    Column("next_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("since", DateTime(timezone=True), nullable=False, server_default=_now),  # when giving up counts from
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("attempted_at", DateTime(timezone=True)),
    Column("delivered_at", DateTime(timezone=True)),
    Column("last_error", Text),
    Column("response_status", Integer),
    CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name="state"),
    CheckConstraint("(delivered_at IS NOT NULL) = (state = 'delivered')", name="delivered_at"),
    CheckConstraint("token IS NULL OR state = 'waiting'", name="token"),
    Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
    Index("ix_webhook_deliveries_job_id", "job_id", postgresql_where=text("job_id IS NOT NULL")),
    Index("ix_webhook_deliveries_batch_id", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    Index("ix_webhook_deliveries_due", "webhook_id", "next_at", postgresql_where=text("state = 'waiting'")),
    Index("ix_webhook_deliveries_created_at", "created_at"),
)

#: What a caller's `Idempotency-Key` made, so that the same request makes nothing more.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # of method, path and body
    Column("made", Uuid, nullable=False),  # the id of what was made
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

#: Jobs that came in one request. Deleting one takes its jobs along, so that is left to `domain.removal`.
batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),  # UUIDv7: newest last
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text),
    Column("total", Integer, nullable=False),  # jobs it came with; some may have been deleted since
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
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
    Column("rung_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("started_at", DateTime(timezone=True)),  # first claim
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint(_one_of("state", State), name="state"),
    CheckConstraint(_one_of("verdict", Verdict), name="verdict"),
    CheckConstraint("reuse IN ('never', 'caller')", name="reuse"),
    CheckConstraint(_one_of("runtime", Runtime), name="runtime"),
    CheckConstraint(_one_of("priority", Priority), name="priority"),
    CheckConstraint(_one_of("outcome", Outcome), name="outcome"),
    CheckConstraint(_one_of("next_state", LEASED_STATES), name="next_state"),
    CheckConstraint("num_nonnulls(code, task) = 1", name="code_or_task"),
    CheckConstraint("(verdict IS NOT NULL) = (state = 'finished')", name="verdict_iff_finished"),
    CheckConstraint(
        f"(lease_token IS NOT NULL) = ({_one_of('state', LEASED_STATES)})",
        name="lease_iff_leased",
    ),
    CheckConstraint(
        f"(finished_at IS NOT NULL) = ({_one_of('state', FINAL_STATES)})",
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
    # By what a message leads to, so that however many batch jobs wait, none is read to find another.
    Index(
        "ix_jobs_waiting",
        "priority",
        "next_state",
        "caller_id",
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

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("code", Text),  # None: the job's own code, or a task for which a model gave none
    Column("verdict", Text),  # None: there was no program, or no end of it; `failure` says why
    Column("failure", Text),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("stdout", LargeBinary, nullable=False, server_default=text("''")),
    Column("stderr", LargeBinary, nullable=False, server_default=text("''")),
    Column("stdout_bytes", BigInteger, nullable=False, server_default="0"),  # written, not only kept
    Column("stderr_bytes", BigInteger, nullable=False, server_default="0"),
    Column("stdout_head", BigInteger),  # bytes kept from before what was left out; None: nothing was
    Column("stderr_head", BigInteger),
    Column("wall_s", Double),  # of the program, or of a compiler that failed
    Column("compile_s", Double),  # of a compiler that ended by itself
    Column("cpu_s", Double),
    Column("peak_memory_bytes", BigInteger),
    Column("oom_kills", Integer),
    Column("sandbox_start", Text),  # 'warm' or 'cold'
    Column("sandbox_start_s", Double),  # waiting for the cell
    Column("sandbox_reused", Boolean),  # an earlier job of the same caller ran in it
    Column("image", Text),
    Column("image_digest", Text),
    Column("runtime", Text),
    Column("worker", Text),
    Column("artifacts", Integer, nullable=False, server_default="0"),  # how many it left
    Column("left_out", JSONB(none_as_null=True)),  # {"files": {name: LeftOut}, "more": count}; null for nothing
    Column("results", JSONB(none_as_null=True)),  # tables and charts, as worker.results lets them pass
    Column("profile", Text),
    Column("limits", JSONB),
    Column("cached", Boolean, nullable=False, server_default=text("false")),  # an earlier run's result
    # Of a task.
    Column("round", Integer),  # its calls in `model_calls` have the same
    Column("model", Text),
    Column("choice", JSONB),  # why this model, and why not others
    Column("cost_usd", Numeric),  # of the round, as far as prices are known
    Column("scripted", Boolean, nullable=False, server_default=text("false")),
    Column("check_passed", Boolean),  # None: there was no check, or it was not reached
    Column("note", Text),  # what we know beyond the verdict
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("finished_at", DateTime(timezone=True), nullable=False, server_default=_now),
    CheckConstraint(_one_of("verdict", Verdict), name="verdict"),
    CheckConstraint("num_nonnulls(verdict, failure) = 1", name="verdict_or_failure"),
    CheckConstraint("sandbox_start IN ('warm', 'cold')", name="sandbox_start"),
    # Times for numbers, without reading outputs.
    Index("ix_attempts_numbers", "job_id", postgresql_include=("wall_s", "sandbox_start_s")),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Uuid, primary_key=True),  # domain.files.artifact_key says where its content is
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("name", Text, nullable=False),  # as the program called it, made safe to show
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("sha256", LargeBinary, nullable=False),
    Column("head", Text),  # how a task's file begins, if it is a text: for the model's next turn
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    UniqueConstraint("job_id", "attempt", "name"),
    Index("ix_artifacts_created_at", "created_at"),
)

files = Table(
    "files",
    metadata,
    Column("id", Uuid, primary_key=True),  # domain.files.file_key says where its content is
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("sha256", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("ix_files_caller_id", "caller_id"),
    Index("ix_files_created_at", "created_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("ready", Boolean, nullable=False),
    Column("why_not", Text),  # what keeps it from working, for a person
    Column("facts", JSONB, nullable=False, server_default=text("'{}'")),  # pool sizes, engine version
)

#: Every question to a model, also failed and cached ones. An answer is here before anything is done with it.
model_calls = Table(
    "model_calls",
    metadata,
    Column("id", Uuid, primary_key=True),  # UUIDv7: in the order they were made
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("round", Integer, nullable=False),  # from 1
    Column("gateway", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_version", Text),  # as the gateway named it
    Column("request_id", Text),  # the X-Request-ID we sent
    Column("prompt", JSONB, nullable=False),  # {"system": text, "messages": [{"role", "content"}]}
    Column("parameters", JSONB, nullable=False),  # temperature, max_tokens, …
    Column("answer", Text),
    Column("finish", Text),
    Column("failure", Text),  # worker.model.types.Failure; None: it gave an answer
    Column("detail", Text),  # of the failure, for people
    Column("status", Integer),  # HTTP, where the gateway gave one
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cache_read_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("estimated", Boolean, nullable=False, server_default=text("false")),  # our count, not the gateway's
    Column("price", JSONB),  # as used; None: not known
    Column("cost_usd", Numeric),  # None: not known
    Column("latency_s", Double),
    Column("first_byte_s", Double),
    Column("cache_hit", Boolean, nullable=False, server_default=text("false")),
    Column("scripted", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    CheckConstraint("num_nonnulls(answer, failure) = 1", name="answer_or_failure"),
    Index("ix_model_calls_job_id", "job_id", "round"),
    Index("ix_model_calls_created_at", "created_at"),
)

#: Answers of models by a hash of everything that changes them, the caller included.
response_cache = Table(
    "response_cache",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", Uuid, nullable=False),  # which asked
    Column("answer", JSONB, nullable=False),
    Column("hits", BigInteger, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("ix_response_cache_caller_id", "caller_id"),
    Index("ix_response_cache_job_id", "job_id"),
    Index("ix_response_cache_used_at", "used_at"),
)

#: Results of programs by a hash of everything that changes them, the caller included.
execution_cache = Table(
    "execution_cache",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", Uuid, nullable=False),  # whose run this was
    Column("result", JSONB, nullable=False),  # columns of `attempts` that are no outputs
    Column("stdout", LargeBinary, nullable=False),
    Column("stderr", LargeBinary, nullable=False),
    Column("hits", BigInteger, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("ix_execution_cache_caller_id", "caller_id"),
    Index("ix_execution_cache_job_id", "job_id"),
    Index("ix_execution_cache_used_at", "used_at"),
)

#: What jobs used that are deleted, by caller and UTC day: deleting gives nothing of a quota back.
past_usage = Table(
    "past_usage",
    metadata,
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("jobs", BigInteger, nullable=False, server_default="0"),  # submitted
    Column("runs", BigInteger, nullable=False, server_default="0"),  # programs that ran
    Column("wall_s", Double, nullable=False, server_default="0"),
    Column("cpu_s", Double, nullable=False, server_default="0"),
    Column("calls", BigInteger, nullable=False, server_default="0"),  # of models
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cost_usd", Numeric, nullable=False, server_default="0"),
)

#: What callers' jobs came to in hours that are over (`api.hours`). Triggers (migration 0012) remove what no
#: longer is right.
hourly_sums = Table(
    "hourly_sums",
    metadata,
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),  # of the jobs' ids
    Column("sums", JSONB, nullable=False),  # api.sums.Sums
)
