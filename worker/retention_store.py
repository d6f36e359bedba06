"""What is too old, and what of it is still needed: the statements of retention."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, text

from domain import file_statements, removal
from domain.ids import id_at
from worker.store import Store

_RETENTION_LOCK = 0x72657470  # any number that nobody else takes


class RetentionStore:
    """Statements of retention, on connections that nothing else uses."""

    def __init__(self, store: Store) -> None:
        self._slow = store.connections.slow

    @contextmanager
    def alone_in_retention(self) -> Iterator[bool]:
        """A block in which no other process removes old files; False if one does."""
        with self._slow.connect() as connection:
            key = {"k": _RETENTION_LOCK}
            alone = bool(connection.execute(text("SELECT pg_try_advisory_lock(:k)"), key).scalar())
            try:
                yield alone
            finally:
                if alone:
                    connection.execute(text("SELECT pg_advisory_unlock(:k)"), key)

    def expire_artifacts(self, days: int, most: int) -> list[UUID]:
        """Forget artifacts that are so old: their ids."""
        return self._ids(file_statements.EXPIRE_ARTIFACTS, {"days": days, "most": most})

    def expire_files(self, days: int, most: int) -> list[UUID]:
        """Forget uploaded files that are so old: their ids."""
        return self._ids(file_statements.EXPIRE_FILES, {"days": days, "most": most})

    def retentions(self, days: int) -> list[tuple[UUID, int]]:
        """Callers, and the days that their jobs are kept; `days`: where no quota says, 0 for ever."""
        with self._slow.connect() as connection:
            found = connection.execute(removal.RETENTIONS, {"b_days": days})
            return [(row.id, row.days) for row in found]

    def expire_jobs(self, caller_id: UUID, days: int, most: int) -> tuple[int, list[UUID]]:
        """Remove jobs that ended so long ago: how many, and the ids of their artifacts."""
        # Nearly as old by our own clock, which only spares reading others: the database's decides.
        before = id_at(datetime.now(UTC) - timedelta(days=days) + timedelta(days=1))
        values = {"b_caller_id": caller_id, "b_before_id": before, "b_days": days, "b_most": most}
        with self._slow.connect() as connection:
            rows = connection.execute(removal.EXPIRE_JOBS, values).all()
        return len(rows), [artifact for row in rows for artifact in row.artifacts]

    def expire_batches(self, caller_id: UUID, days: int) -> None:
        """Remove batches of that age that have no jobs any more."""
        with self._slow.connect() as connection:
            connection.execute(removal.EXPIRE_BATCHES, {"b_caller_id": caller_id, "b_days": days})

    def expire_files_of(self, caller_id: UUID, days: int, most: int) -> list[UUID]:
        """Forget a caller's uploaded files that are so old: their ids."""
        values = {"caller_id": caller_id, "days": days, "most": most}
        return self._ids(file_statements.EXPIRE_FILES_OF, values)

    def with_rows(self, kind: str, ids: list[UUID]) -> set[UUID]:
        """Those of the ids that have a row among the `artifacts` or `files`."""
        statement = file_statements.ARTIFACTS_AMONG if kind == "artifacts" else file_statements.FILES_AMONG
        return set(self._ids(statement, {"ids": ids}))

    def _ids(self, statement: Executable, values: dict[str, Any]) -> list[UUID]:
        with self._slow.connect() as connection:
            return [row.id for row in connection.execute(statement, values)]
