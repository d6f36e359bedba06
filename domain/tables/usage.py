"""What callers' jobs came to, added up."""

from sqlalchemy import BigInteger, Column, Date, DateTime, Double, ForeignKey, Numeric, Table, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from domain.tables.base import metadata

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
