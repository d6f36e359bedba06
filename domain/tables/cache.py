"""What an earlier job got, by a hash of everything that changes it."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, LargeBinary, Table, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from domain.tables.base import NOW, metadata

#: Answers of models by a hash of everything that changes them, the caller included.
response_cache = Table(
    "response_cache",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", Uuid, nullable=False),  # which asked
    Column("answer", JSONB, nullable=False),
    Column("hits", BigInteger, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=NOW),
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
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Index("ix_execution_cache_caller_id", "caller_id"),
    Index("ix_execution_cache_job_id", "job_id"),
    Index("ix_execution_cache_used_at", "used_at"),
)
