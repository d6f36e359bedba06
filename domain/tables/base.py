"""What the tables have in common."""

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import DDL, MetaData, event, func

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


def one_of(column: str, values: Iterable[StrEnum]) -> str:
    """A condition: the column has one of these values."""
    return f"{column} IN ({', '.join(repr(v.value) for v in sorted(values))})"


NOW = func.now()
