"""What workers say of themselves."""

from sqlalchemy import Boolean, Column, DateTime, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from domain.tables.base import NOW, metadata

workers = Table(
    "workers",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("ready", Boolean, nullable=False),
    Column("why_not", Text),  # what keeps it from working, for a person
    Column("facts", JSONB, nullable=False, server_default=text("'{}'")),  # pool sizes, engine version
)
