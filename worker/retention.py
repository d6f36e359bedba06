"""Removing jobs, files and artifacts that nobody needs any more, at a slow pace.

Rows end by age, those of jobs as their caller's quotas say; what was deleted with its job, or never got a row
because a worker lost its lease between storing and finishing, is found by listing the storage. An object is
removed only when it has no row and is older than any job that could still be about to record it.
"""

import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.files import artifact_key, file_key
from storage.store import Storage
from worker.retention_store import RetentionStore
from worker.store import Store

log = logging.getLogger(__name__)

#: Seconds that an object without a row is left alone: far above what lies between storing and recording.
ORPHAN_S = 3600.0

#: Rows removed in one statement.
_MOST = 500


class Retention:
    """Removes what is too old. Jobs, uploads and artifacts have each their days; 0 is never.

    A caller's own days hold for its jobs with all that is kept of them, and for its uploads.
    """

    def __init__(
        self,
        store: Store,
        storage: Storage,
        *,
        files_days: int,
        artifacts_days: int,
        jobs_days: int = 0,
        orphan_s: float = ORPHAN_S,
    ) -> None:
        self._store = RetentionStore(store)
        self._storage = storage
        self._files_days = files_days
        self._artifacts_days = artifacts_days
        self._jobs_days = jobs_days
        self._orphan_s = orphan_s

    def step(self) -> None:
        """Look through everything once, in one process of all.

        Raises:
            StorageError: the storage does not answer; the next step goes on.
        """
        with self._store.alone_in_retention() as alone:
            if not alone:
                return
            for caller_id, days in self._store.retentions(self._jobs_days):
                self._expire_jobs(caller_id, days)
            expired = self._expire() + self._orphans("artifacts") + self._orphans("files")
        if expired:
            log.info("removed files that nobody needs", extra={"count": expired})

    def _expire_jobs(self, caller_id: UUID, days: int) -> None:
        count = 0
        while (removed := self._store.expire_jobs(caller_id, days, _MOST))[0]:
            count += removed[0]
            self._remove([artifact_key(each) for each in removed[1]])
        while ids := self._store.expire_files_of(caller_id, days, _MOST):
            self._remove([file_key(each) for each in ids])
        self._store.expire_batches(caller_id, days)
        if count:
            log.info("removed old jobs", extra={"caller_id": str(caller_id), "count": count})

    def _expire(self) -> int:
        count = 0
        if self._artifacts_days:
            while ids := self._store.expire_artifacts(self._artifacts_days, _MOST):
                count += self._remove([artifact_key(each) for each in ids])
        if self._files_days:
            while ids := self._store.expire_files(self._files_days, _MOST):
                count += self._remove([file_key(each) for each in ids])
        return count

    def _orphans(self, kind: str) -> int:
        count = 0
        before = datetime.now(UTC) - timedelta(seconds=self._orphan_s)
        for page in self._storage.pages(kind):
            found = {}
            for stored in page:
                made = _id(stored.key)
                if made is not None and stored.modified < before:
                    found[made] = stored.key
            if found:
                rows = self._store.with_rows(kind, list(found))
                count += self._remove([key for made, key in found.items() if made not in rows])
        return count

    def _remove(self, keys: list[str]) -> int:
        for key in keys:
            self._storage.delete(key)
        return len(keys)


def _id(key: str) -> UUID | None:
    """The id in a key of ours; None for what somebody else put there."""
    try:
        return UUID(key.rpartition("/")[2])
    except ValueError:
        return None
