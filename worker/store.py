"""The worker's statements on the database: one method each, one round trip each.

A method that writes for a job names the lease token; False means that the lease was lost and nothing changed.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import Executable, Row, create_engine, text
from sqlalchemy.exc import DBAPIError

from domain import statements
from domain.bell import LEASE_S
from domain.limits import Limits
from domain.states import State
from worker.hot import Hot

log = logging.getLogger(__name__)
T = TypeVar("T")

_SWEEP_LOCK = 0x7265746F  # any numbers that nobody else takes
_RETENTION_LOCK = 0x72657470


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job whose lease we hold."""

    id: UUID
    token: UUID
    caller_id: UUID
    claims: int
    code: str | None
    language: str
    profile: str
    limits: Limits
    stdin: bytes
    args: tuple[str, ...]
    env: dict[str, str]
    reuse: str
    files: Sequence[dict[str, Any]] = ()  # name, size, sha256, and file: an uploaded one's id, or None
    inline_files: bytes = b""


@dataclass(frozen=True, slots=True)
class Left:
    """What an attempt left: artifacts that are stored, what was left out, results that passed."""

    artifacts: list[dict[str, Any]]
    left_out: dict[str, Any] | None
    results: list[dict[str, Any]] | None


def _job(row: Row[Any], token: UUID) -> ClaimedJob:
    return ClaimedJob(
        id=row.id,
        token=token,
        caller_id=row.caller_id,
        claims=row.claims,
        code=row.code,
        language=row.language,
        profile=row.profile,
        limits=Limits(**row.limits),
        stdin=bytes(row.stdin or b""),
        args=tuple(row.args),
        env=row.env,
        reuse=row.reuse,
        files=row.files or (),
        inline_files=bytes(row.inline_files or b""),
    )


class Store:
    """Database access of one worker process. Methods may be called from any thread."""

    def __init__(self, url: str, *, threads: int) -> None:
        common: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_timeout": 10}
        self._durable = create_engine(url, pool_size=threads + 1, max_overflow=0, **common)
        # A claim that a crash of the database forgets leaves the job queued: it runs again, and the first
        # runner's result is refused by its token. So claims and heartbeats need not wait for the disk.
        options = {"options": "-c synchronous_commit=off"}
        self._hasty = create_engine(url, pool_size=threads + 1, max_overflow=0, connect_args=options, **common)
        self._hot = Hot(self._durable)
        self._hot_hasty = Hot(self._hasty)
        # Heartbeats must not queue behind jobs.
        self._reserved = create_engine(url, pool_size=1, max_overflow=0, connect_args=options, **common)
        self._sweeping = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=10)
        # Retention takes its time: one connection holds the lock that keeps it single, one works.
        self._slow = create_engine(url, pool_size=2, max_overflow=0, **common)

    def close(self) -> None:
        """Close every connection."""
        for engine in (self._durable, self._hasty, self._reserved, self._sweeping, self._slow):
            engine.dispose()

    def warm_up(self, connections: int) -> None:
        """Open connections now, so that no job waits for one."""
        for engine in (self._durable, self._hasty):
            opened = [engine.connect() for _ in range(connections)]
            for connection in opened:
                connection.exec_driver_sql("SELECT 1")
            for connection in opened:
                connection.close()

    # --- one job ----------------------------------------------------------------------------------

    def claim(self, job_id: UUID, token: UUID, worker: str, state: State) -> ClaimedJob | None:
        """Take the lease of a job that is queued, or whose worker was lost; None if it is not to be had."""
        values = {"b_id": job_id, "b_token": token, "b_worker": worker, "b_state": state.value}
        for statement in (statements.CLAIM, statements.RECLAIM):
            row = self._hot_hasty.first(statement, values)
            if row is not None:
                return _job(row, token)
        return None

    def finish(
        self,
        job: ClaimedJob,
        *,
        verdict: str,
        reason: str | None,
        attempt: dict[str, Any],
        left: Left | None = None,
    ) -> bool:
        """Record the attempt, its verdict and what it left, and end the job."""
        values = {"b_verdict": verdict, "b_reason": _storable(reason)}
        if left is None:
            return self._end(statements.FINISH, job, attempt, values)
        values |= {
            "kept": _json(left.artifacts),
            "a_artifacts": len(left.artifacts),
            "a_left_out": _json(left.left_out),
            "a_results": _json(left.results),
        }
        return self._end(statements.FINISH_LEFT, job, attempt, values)

    def retry(self, job: ClaimedJob, *, attempt: dict[str, Any]) -> bool:
        """Record the failed attempt and queue the job again."""
        return self._end(statements.RETRY, job, attempt, {})

    def break_(self, job: ClaimedJob, *, reason: str, attempt: dict[str, Any]) -> bool:
        """Record the failed attempt and give the job up."""
        return self._end(statements.BREAK, job, attempt, {"b_reason": _storable(reason)})

    def release(self, job: ClaimedJob) -> bool:
        """Give the claim back; nothing ran."""
        values = {"b_id": job.id, "b_token": job.token}
        return self._hot.first(statements.RELEASE, values) is not None

    def _end(
        self, statement: Executable, job: ClaimedJob, attempt: dict[str, Any], values: dict[str, Any]
    ) -> bool:
        record = {f"a_{name}": _storable(attempt.get(name)) for name in statements.ATTEMPT_FIELDS}
        parameters = {"b_id": job.id, "b_token": job.token, **values, **record}
        # A result is worth waiting for: the database may be restarting. Repeating is safe; if the first try
        # did commit, the token is gone and the second changes nothing.
        row = _patiently(lambda: self._hot.first(statement, parameters))
        return row is not None

    # --- many jobs --------------------------------------------------------------------------------

    def heartbeat(self, tokens: Iterable[UUID]) -> set[UUID]:
        """Extend leases; those that still hold."""
        with self._reserved.connect() as connection:
            rows = connection.execute(statements.HEARTBEAT, {"tokens": list(tokens)})
            return {row.lease_token for row in rows}

    def sweep(self, *, after_s: int, most: int) -> tuple[list[UUID], list[UUID]]:
        """Break jobs whose workers were lost too often; find those to ring for again.

        Only one process sweeps at a time; the others get nothing.
        """
        with self._sweeping.begin() as connection:
            locked = connection.execute(text("SELECT pg_try_advisory_xact_lock(:k)"), {"k": _SWEEP_LOCK})
            if not locked.scalar():
                return [], []
            broken = [row.id for row in connection.execute(statements.BREAK_LOST)]
            overdue = connection.execute(statements.OVERDUE, {"after_s": after_s, "most": most})
            return broken, [row.id for row in overdue]

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
        return self._ids(statements.EXPIRE_ARTIFACTS, {"days": days, "most": most})

    def expire_files(self, days: int, most: int) -> list[UUID]:
        """Forget uploaded files that are so old: their ids."""
        return self._ids(statements.EXPIRE_FILES, {"days": days, "most": most})

    def with_rows(self, kind: str, ids: list[UUID]) -> set[UUID]:
        """Those of the ids that have a row among the `artifacts` or `files`."""
        statement = statements.ARTIFACTS_AMONG if kind == "artifacts" else statements.FILES_AMONG
        return set(self._ids(statement, {"ids": ids}))

    def _ids(self, statement: Executable, values: dict[str, Any]) -> list[UUID]:
        with self._slow.connect() as connection:
            return [row.id for row in connection.execute(statement, values)]

    # --- ourselves --------------------------------------------------------------------------------

    def report(self, instance: str, *, ready: bool, why_not: str | None, facts: dict[str, Any]) -> None:
        """Say how this worker is."""
        values = {"instance": instance, "ready": ready, "why_not": _storable(why_not), "facts": facts}
        with self._reserved.connect() as connection:
            connection.execute(statements.REPORT_WORKER, values)

    def forget(self, instance: str) -> None:
        """Say that this worker leaves."""
        with self._reserved.connect() as connection:
            connection.execute(statements.FORGET_WORKER, {"b_instance": instance})


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _storable(value: Any) -> Any:
    """Text as the database can hold it: what a broken sandbox said of itself may be anything."""
    if not isinstance(value, str):
        return value
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _patiently(step: Callable[[], T]) -> T:
    """Repeat a step while the database is away, for as long as a lease lasts."""
    give_up = time.monotonic() + LEASE_S
    pause = 0.1
    while True:
        try:
            return step()
        except DBAPIError as e:
            if not (e.connection_invalidated or "connection" in str(e.orig).lower()):
                raise
            if time.monotonic() > give_up:
                raise
            log.warning("the database is away, trying again: %s", str(e.orig).strip())
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
