"""Callers, and what they brought: their keys, their requests' keys, their files."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.states import Runtime
from domain.tables.base import NOW, metadata, one_of

callers = Table(
    "callers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("runtime", Text),  # the only tier this caller's jobs may run on; None: any
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("quotas", JSONB, nullable=False, server_default=text("'{}'")),  # domain.quotas.Quotas
    Column("most_running", Integer),  # jobs at a time; None: as many as there is room for
    Column("served_at", DateTime(timezone=True)),  # when the fair claim last chose it
    UniqueConstraint("name"),
    CheckConstraint(one_of("runtime", Runtime), name="runtime"),
    CheckConstraint("most_running >= 0", name="most_running"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("hash", LargeBinary, nullable=False),  # domain.ids.hash_api_key
    Column("hint", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("revoked_at", DateTime(timezone=True)),
    Column("scopes", ARRAY(Text), nullable=False, server_default=text("'{submit,read}'")),
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),  # to the minute: written rarely
    UniqueConstraint("hash"),
    CheckConstraint("scopes <@ ARRAY['submit', 'read', 'admin']", name="scopes"),
    Index("ix_api_keys_caller_id", "caller_id"),
)

#: What a caller's `Idempotency-Key` made, so that the same request makes nothing more.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # of method, path and body
    Column("made", Uuid, nullable=False),  # the id of what was made
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

files = Table(
    "files",
    metadata,
    Column("id", Uuid, primary_key=True),  # domain.files.file_key says where its content is
    Column("caller_id", Uuid, ForeignKey("callers.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("sha256", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Index("ix_files_caller_id", "caller_id"),
    Index("ix_files_created_at", "created_at"),
)
