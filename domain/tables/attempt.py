"""What was tried for a job: programs that ran, what they left, questions to models."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.states import Verdict
from domain.tables.base import NOW, metadata, one_of

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
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("finished_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    CheckConstraint(one_of("verdict", Verdict), name="verdict"),
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
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    UniqueConstraint("job_id", "attempt", "name"),
    Index("ix_artifacts_created_at", "created_at"),
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
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    CheckConstraint("num_nonnulls(answer, failure) = 1", name="answer_or_failure"),
    Index("ix_model_calls_job_id", "job_id", "round"),
    Index("ix_model_calls_created_at", "created_at"),
)
