"""The worker's statements on the database: one method each, one round trip each.

A method that writes for a job names the lease token; False means that the lease was lost and nothing changed.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Executable, Row, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from domain import fairness, removal, statements
from domain.bell import LEASE_S, queue_of
from domain.ids import id_at
from domain.languages import split_wish
from domain.limits import Limits
from domain.quotas import Quotas
from domain.states import Priority, Runtime, State
from domain.tasks import Draft, Policy
from worker import faults, meters
from worker.hot import Hot

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A database whose machine is gone is noticed by TCP, after some 20 s; on a local socket these mean nothing.
TCP: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}

#: Connections of each kind that threads share which mostly wait.
SHARED = 8

_SWEEP_LOCK = 0x7265746F  # any numbers that nobody else takes
_RETENTION_LOCK = 0x72657470


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """What a task has beside what every job has."""

    text: str
    policy: Policy
    check: Mapping[str, str]  # {} where there is none
    round: int  # times that a model was asked for a program
    draft: Draft | None  # the program of this round
    budget_usd: Decimal | None
    cost_usd: Decimal  # so far
    age_s: float  # since it was submitted
    asked: bool = True  # whether a model may have been asked before this claim
    caller_budget_usd: Decimal | None = None  # for models in a day; None where the caller's quotas say nothing
    caller_tokens_per_minute: int | None = None  # in and out, of models; likewise


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job whose lease we hold."""

    id: UUID
    token: UUID
    caller_id: UUID
    state: State
    claims: int
    code: str | None
    language: str
    profile: str
    limits: Limits
    stdin: bytes
    args: tuple[str, ...]
    env: dict[str, str]
    reuse: str
    runtime: Runtime = Runtime.RUNC
    bound_to: Runtime | None = None  # the only tier that its caller may use
    cache: bool = False
    priority: str = Priority.INTERACTIVE
    task: ClaimedTask | None = None  # None: plain code
    age_s: float = 0.0  # since it was submitted
    traceparent: str | None = None  # where it came from
    limited: bool = False  # its caller may run a certain number at a time, so its end makes room for another

    @property
    def language_name(self) -> str:
        """The language alone, without the version that was wished for."""
        return split_wish(self.language)[0]

    files: Sequence[dict[str, Any]] = ()  # name, size, sha256, and file: an uploaded one's id, or None
    inline_files: bytes = b""


def _job(row: Row[Any], token: UUID) -> ClaimedJob:
    return ClaimedJob(
        id=row.id,
        token=token,
        caller_id=row.caller_id,
        state=State(row.state),
        claims=row.claims,
        code=row.code,
        language=row.language,
        profile=row.profile,
        limits=Limits(**row.limits),
        stdin=bytes(row.stdin or b""),
        args=tuple(row.args),
        env=row.env,
        reuse=row.reuse,
        runtime=Runtime(row.runtime),
        bound_to=None if row.bound_to is None else Runtime(row.bound_to),
        cache=row.cache,
        priority=row.priority,
        task=None if row.task is None else _task(row),
        files=row.files or (),
        inline_files=bytes(row.inline_files or b""),
        age_s=row.age_s,
        traceparent=row.traceparent,
    )


def _task(row: Row[Any]) -> ClaimedTask:
    quotas = Quotas.of(row.caller_quotas or {}, None)
    usd = quotas.model_usd_per_day
    return ClaimedTask(
        text=row.task,
        policy=Policy.of(row.policy or {}),
        check=row.check_by or {},
        round=row.round,
        draft=None if row.draft is None else Draft.of(row.draft),
        budget_usd=row.budget_usd,
        cost_usd=row.cost_usd,
        age_s=row.age_s,
        # Of a worker that lost the job an answer may yet come.
        asked=row.asked or row.claims > 1,
        caller_budget_usd=None if usd is None else Decimal(usd),
        caller_tokens_per_minute=quotas.model_tokens_per_minute,
    )


class Store:
    """Database access of one worker process. Methods may be called from any thread."""

    def __init__(self, url: str, *, threads: int, share: bool = False, lease_s: float = LEASE_S) -> None:
        """`share`: threads mostly wait for others, and take a connection for one statement at a time.

        `lease_s`: seconds for which a claim holds, and each heartbeat after it.
        """
        self.lease_s = lease_s
        common: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_timeout": 10, "connect_args": TCP}
        self._connections = min(threads, SHARED) if share else threads
        threads = self._connections
        self._durable = create_engine(url, pool_size=threads + 1, max_overflow=0, **common)
        # A claim that a crash of the database forgets leaves the job queued: it runs again, and the first
        # runner's result is refused by its token. So claims and heartbeats need not wait for the disk.
        hasty = {**common, "connect_args": {**TCP, "options": "-c synchronous_commit=off"}}
        self._hasty = create_engine(url, pool_size=threads + 1, max_overflow=0, **hasty)
        self._hot = Hot(self._durable, keep=not share)
        self._hot_hasty = Hot(self._hasty, keep=not share)
        self._backlog = False
        # Heartbeats must not queue behind jobs.
        self._reserved = create_engine(url, pool_size=1, max_overflow=0, **hasty)
        self._sweeping = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=10, connect_args=TCP)
        # Retention takes its time: one connection holds the lock that keeps it single, one works.
        self._slow = create_engine(url, pool_size=2, max_overflow=0, **common)

    def close(self) -> None:
        """Close every connection."""
        for engine in (self._durable, self._hasty, self._reserved, self._sweeping, self._slow):
            engine.dispose()

    def warm_up(self) -> None:
        """Open connections now, so that no job waits for one."""
        for engine in (self._durable, self._hasty):
            opened = [engine.connect() for _ in range(self._connections)]
            for connection in opened:
                connection.exec_driver_sql("SELECT 1")
            for connection in opened:
                connection.close()

    def connections(self) -> tuple[int, int, int]:
        """Connections that are open, those in use (a thread's own is), and how many there may be."""
        pools = [each.pool for each in (self._durable, self._hasty, self._reserved, self._sweeping, self._slow)]
        counted = [pool for pool in pools if isinstance(pool, QueuePool)]
        in_use = sum(pool.checkedout() for pool in counted)
        return in_use + sum(pool.checkedin() for pool in counted), in_use, sum(pool.size() for pool in counted)

    # --- one job ----------------------------------------------------------------------------------

    def claim(
        self,
        job_id: UUID,
        token: UUID,
        worker: str,
        *states: State,
        runtimes: Iterable[Runtime] = tuple(Runtime),
    ) -> ClaimedJob | None:
        """Take the lease of a job that waits for one of these states, or whose worker was lost in one.

        None if it is not to be had; a program for a tier that is not among `runtimes` is not.
        """
        values = self._claim_values(job_id, token, worker, states, runtimes)
        row = self._hot_hasty.first(statements.CLAIM, values)
        return self._reclaim(values, token) if row is None else _job(row, token)

    def _reclaim(self, values: dict[str, Any], token: UUID) -> ClaimedJob | None:
        """Take a job over whose worker let its lease run out."""
        row = self._hot_hasty.first(statements.RECLAIM, values)
        if row is None:
            return None
        meters.EXPIRED.inc()
        return _job(row, token)

    def claim_next(
        self,
        job_id: UUID,
        token: UUID,
        worker: str,
        *states: State,
        runtimes: Sequence[Runtime] = tuple(Runtime),
    ) -> ClaimedJob | None:
        """Take the lease of the job that a message names, or of a fairer one; None if there is none."""
        values = self._claim_values(job_id, token, worker, states, runtimes)
        if not self._backlog:
            row = self._hot_hasty.first(fairness.CLAIM_FRESH, values)
            if row is not None:
                return _job(row, token)
            row = self._hot_hasty.first_under(fairness.LOCK_CALLER, fairness.CLAIM_FRESH_LIMITED, values)
            if row is not None:
                return replace(_job(row, token), limited=True)
        for _ in range(2):  # what was chosen may just have been claimed as fresh
            row = self._hot_hasty.first_under(fairness.LOCK, fairness.CLAIM_FAIRLY, values)
            if row is not None:
                # Only a guess at what the next message will find; each claim is right by itself.
                self._backlog = row.waited
                return replace(_job(row, token), limited=row.limited)
        self._backlog = False
        return self._reclaim(values, token)

    def _claim_values(
        self, job_id: UUID, token: UUID, worker: str, states: Iterable[State], runtimes: Iterable[Runtime]
    ) -> dict[str, Any]:
        return {
            "b_id": job_id,
            "b_token": token,
            "b_worker": worker,
            "b_lease_s": self.lease_s,
            "b_states": [each.value for each in states],
            "b_runtimes": [each.value for each in runtimes],
        }

    def waits(self, job: ClaimedJob) -> bool:
        """Whether the caller of a job has another that waits for the same step."""
        values = {"b_caller_id": job.caller_id, "b_priority": job.priority, "b_next_state": job.state.value}
        return self._hot_hasty.first(fairness.WAITS, values) is not None

    def finish(self, job: ClaimedJob, *, verdict: str, reason: str | None, attempt: dict[str, Any]) -> bool:
        """Record the attempt and its verdict, and end the job."""
        values = {"b_verdict": verdict, "b_reason": storable(reason)}
        held = self.end(statements.FINISH, job, attempt, values)
        if held:
            meters.ended(State.FINISHED, verdict, job.language_name)
        return held

    def retry(self, job: ClaimedJob, *, attempt: dict[str, Any]) -> bool:
        """Record the failed attempt and queue the job again."""
        return self.end(statements.RETRY, job, attempt, {})

    def break_(self, job: ClaimedJob, *, reason: str, attempt: dict[str, Any]) -> bool:
        """Record the failed attempt and give the job up."""
        held = self.end(statements.BREAK, job, attempt, {"b_reason": storable(reason)})
        if held:
            meters.ended(State.BROKEN, None, job.language_name)
        return held

    def release(self, job: ClaimedJob) -> bool:
        """Give the claim back; nothing ran."""
        values = {"b_id": job.id, "b_token": job.token}
        return self.first(statements.RELEASE, values) is not None

    def end(
        self, statement: Executable, job: ClaimedJob, attempt: dict[str, Any], values: dict[str, Any]
    ) -> bool:
        """Record an attempt by one of the statements that end one, with what it left if it left anything."""
        values = end_values(job, attempt, values)
        if "kept" in attempt:
            statement = statements.WITH_LEAVINGS[statement]
            values["kept"] = json_text(attempt["kept"])
            values |= {f"a_{name}": _column(attempt[name]) for name in statements.LEFT_FIELDS}
        faults.at("ending", job.id)
        held = self.first(statement, values) is not None
        faults.at("ended", job.id)
        return held

    def first(self, statement: Executable, parameters: dict[str, Any]) -> Any | None:
        """Run a statement whose effect is worth waiting for: the database may be restarting.

        Repeating is safe; if the first try did commit, the token is gone and the second changes nothing.
        """
        return _patiently(lambda: self._hot.first(statement, parameters))

    def first_hasty(self, statement: Executable, parameters: dict[str, Any]) -> Any | None:
        """The same for an effect that a crash of the database may forget."""
        return _patiently(lambda: self._hot_hasty.first(statement, parameters))

    def all(self, statement: Executable, parameters: dict[str, Any]) -> Sequence[Row[Any]]:
        """Every row of a question."""

        def ask() -> Sequence[Row[Any]]:
            with self._durable.connect() as connection:
                return connection.execute(statement, parameters).all()

        return _patiently(ask)

    # --- many jobs --------------------------------------------------------------------------------

    def heartbeat(self, held: Mapping[UUID, UUID]) -> set[UUID]:
        """Extend leases, given as tokens with the ids of their jobs; the tokens that still hold."""
        with self._reserved.connect() as connection:
            values = {"tokens": list(held), "ids": list(held.values()), "b_lease_s": self.lease_s}
            rows = connection.execute(statements.HEARTBEAT, values)
            return {row.lease_token for row in rows}

    def sweep(self, *, after_s: Mapping[str, int], most: int) -> tuple[list[UUID], list[tuple[UUID, str]]]:
        """Break jobs whose workers were lost too often; find those to ring for again, and on which queue.

        `after_s`: for each queue, how long a job of it must have waited since its last ring. Only one process
        sweeps at a time; the others get nothing.
        """
        with self._sweeping.begin() as connection:
            locked = connection.execute(text("SELECT pg_try_advisory_xact_lock(:k)"), {"k": _SWEEP_LOCK})
            if not locked.scalar():
                return [], []
            broken = [row.id for row in connection.execute(statements.BREAK_LOST)]
            patience = {statements.patience_of(queue): seconds for queue, seconds in after_s.items()}
            overdue = connection.execute(statements.OVERDUE, {**patience, "most": most}).all()
            if overdue:
                connection.execute(statements.REQUEUE_LOST, {"ids": [row.id for row in overdue]})
            return broken, [(row.id, queue_of(row.next_state, row.priority, row.runtime)) for row in overdue]

    def offered(self) -> frozenset[str]:
        """The tiers that live workers offer."""
        with self._sweeping.connect() as connection:
            live = connection.execute(statements.LIVE_WORKERS)
            return frozenset(name for row in live for name in row.facts.get("runtimes") or ())

    def break_stranded(self, runtimes: Iterable[Runtime], *, after_s: int) -> list[UUID]:
        """End the jobs that have waited for so long for one of these tiers."""
        values = {"runtimes": [each.value for each in runtimes], "after_s": after_s}
        with self._sweeping.begin() as connection:
            return [row.id for row in connection.execute(statements.BREAK_STRANDED, values)]

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
        return self._ids(statements.EXPIRE_FILES_OF, values)

    def with_rows(self, kind: str, ids: list[UUID]) -> set[UUID]:
        """Those of the ids that have a row among the `artifacts` or `files`."""
        statement = statements.ARTIFACTS_AMONG if kind == "artifacts" else statements.FILES_AMONG
        return set(self._ids(statement, {"ids": ids}))

    def _ids(self, statement: Executable, values: dict[str, Any]) -> list[UUID]:
        with self._slow.connect() as connection:
            return [row.id for row in connection.execute(statement, values)]

    def forget_keys(self, *, hours: int, most: int) -> int:
        """Forget old Idempotency-Keys; how many."""
        with self._sweeping.begin() as connection:
            forgotten = connection.execute(statements.FORGET_KEYS, {"hours": hours, "most": most})
            return int(forgotten.rowcount)

    # --- ourselves --------------------------------------------------------------------------------

    def report(self, instance: str, *, ready: bool, why_not: str | None, facts: dict[str, Any]) -> None:
        """Say how this worker is."""
        values = {"instance": instance, "ready": ready, "why_not": storable(why_not), "facts": facts}
        with self._reserved.connect() as connection:
            connection.execute(statements.REPORT_WORKER, values)

    def forget(self, instance: str) -> None:
        """Say that this worker leaves."""
        with self._reserved.connect() as connection:
            connection.execute(statements.FORGET_WORKER, {"b_instance": instance})


def end_values(job: ClaimedJob, attempt: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a statement that ends an attempt."""
    record = {f"a_{name}": _column(attempt.get(name)) for name in statements.ATTEMPT_FIELDS}
    return {"b_id": job.id, "b_token": job.token, **values, **record}


def _column(value: Any) -> Any:
    return json_text(value) if isinstance(value, dict | list) else storable(value)


def json_text(value: Any) -> str:
    """A value for a JSON column, which holds no NUL and no half of a surrogate pair."""
    return json.dumps(storable(value), ensure_ascii=False)


def storable(value: Any) -> Any:
    """Text as the database can hold it, also within lists and objects: what others said may be anything."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {storable(key): storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    return value


def _patiently(step: Callable[[], T]) -> T:
    """Repeat a step while the database is away, for as long as a lease usually lasts."""
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
