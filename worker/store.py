"""The worker's statements on the database: one method each, one round trip each.

A method that writes for a job names the lease token; False means that the lease was lost and nothing changed.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Row, text

from domain import claiming, fairness, finishing, leasing, losing, sweeping, worker_statements
from domain.bell import LEASE_S, queue_of
from domain.states import Runtime, State
from worker import faults, meters
from worker.claimed import ClaimedJob, job_of
from worker.connections import Connections, patiently
from worker.storable import column, json_text, storable

_SWEEP_LOCK = 0x7265746F  # any number that nobody else takes

#: So many waiting jobs are counted, to compare them with messages.
MOST_COUNTED = 100


class Store:
    """Database access of one worker process. Methods may be called from any thread."""

    def __init__(self, url: str, *, threads: int, share: bool = False, lease_s: float = LEASE_S) -> None:
        """`share`: threads mostly wait for others, and take a connection for one statement at a time.

        `lease_s`: seconds for which a claim holds, and each heartbeat after it.
        """
        self.lease_s = lease_s
        self.connections = Connections(url, threads=threads, share=share)
        self._durable = self.connections.durable
        self._hot = self.connections.hot
        self._hot_hasty = self.connections.hot_hasty
        self._reserved = self.connections.reserved
        self._sweeping = self.connections.sweeping
        # Guesses at what the next message will find, each claim is right by itself: that others wait, and that
        # its caller may never run so many that its jobs are claimed without a lock.
        self._backlog = False
        self._limited = False
        # When a job was last taken of a caller that may run a certain number at a time, and may be near it. One
        # entry for each such caller.
        self._pressed: dict[UUID, float] = {}

    def close(self) -> None:
        """Close every connection."""
        self.connections.close()

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
        row = self._hot_hasty.first(claiming.CLAIM, values)
        return self._reclaim(values, token) if row is None else job_of(row, token)

    def _reclaim(self, values: dict[str, Any], token: UUID) -> ClaimedJob | None:
        """Take a job over whose worker let its lease run out."""
        row = self._hot_hasty.first(claiming.RECLAIM, values)
        if row is None:
            return None
        meters.EXPIRED.inc()
        return job_of(row, token)

    def claim_next(
        self,
        job_id: UUID,
        token: UUID,
        worker: str,
        *states: State,
        runtimes: Sequence[Runtime] = tuple(Runtime),
        depths: Callable[[], Mapping[str, int] | None] = lambda: None,
    ) -> ClaimedJob | None:
        """Take the lease of the job that a message names, or of a fairer one; None if there is none.

        `depths` tells how many messages lie in each queue. A message whose job waits no more leads to none
        where there are enough for all that do: else one too many would make each that follows it one too many.
        """
        values = self._claim_values(job_id, token, worker, states, runtimes)
        if not self._backlog:
            row = None if self._limited else self._hot_hasty.first(fairness.CLAIM_FRESH, values)
            if row is not None:
                return job_of(row, token)
            row = self._hot_hasty.first_under(fairness.LOCK_CALLER, fairness.CLAIM_FRESH_LIMITED, values)
            if row is not None:
                self._limited = row.most is not None and row.most <= fairness.FAR
                return self._taken(row, token)
            if self._superfluous(values, depths()):
                return None
        for _ in range(2):  # what was chosen may just have been claimed as fresh
            row = self._hot_hasty.first_under(fairness.LOCK, fairness.CLAIM_FAIRLY, values)
            if row is not None:
                self._backlog = row.waited
                return self._taken(row, token)
        self._backlog = False
        return self._reclaim(values, token)

    def _taken(self, row: Row[Any], token: UUID) -> ClaimedJob:
        limited = row.most is not None
        if limited:
            self._pressed[row.caller_id] = time.monotonic()
        return replace(job_of(row, token), limited=limited)

    def pressed(self, job: ClaimedJob, since: float) -> bool:
        """Whether, at a moment from `since` on (monotonic), a job of its caller may have been refused a place.

        As far as this process saw; what another one refuses, and nobody rings for, is left to the sweeper.
        """
        return job.limited or self._pressed.get(job.caller_id, 0.0) >= since

    def _superfluous(self, values: dict[str, Any], depths: Mapping[str, int] | None) -> bool:
        """Whether a message may be dropped. `depths` from before: a job stored since has a message to come."""
        if depths is None:
            return False
        row = self._hot_hasty.first(fairness.STALE, {**values, "b_most": MOST_COUNTED})
        if row is None or row.waiting == MOST_COUNTED:
            return False
        return bool(row.waiting <= depths.get(queue_of(row.next_state, row.priority, row.runtime), 0))

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

    def waiting(self, job: ClaimedJob) -> int:
        """How many jobs of the same caller wait for the same step, if it is near its limit; else 0.

        They are counted up to `MOST_COUNTED`.
        """
        values = {"b_caller_id": job.caller_id, "b_priority": job.priority, "b_next_state": job.state.value}
        row = self._hot_hasty.first(fairness.WAITING, {**values, "b_most": MOST_COUNTED})
        return 0 if row is None else int(row.waiting)

    def finish(self, job: ClaimedJob, *, verdict: str, reason: str | None, attempt: dict[str, Any]) -> bool:
        """Record the attempt and its verdict, and end the job."""
        values = {"b_verdict": verdict, "b_reason": storable(reason)}
        held = self.end(finishing.FINISH, job, attempt, values)
        if held:
            meters.ended(State.FINISHED, verdict, job.language_name)
        return held

    def retry(self, job: ClaimedJob, *, attempt: dict[str, Any]) -> bool:
        """Record the failed attempt and queue the job again."""
        return self.end(finishing.RETRY, job, attempt, {})

    def break_(self, job: ClaimedJob, *, reason: str, attempt: dict[str, Any]) -> bool:
        """Record the failed attempt and give the job up."""
        held = self.end(finishing.BREAK, job, attempt, {"b_reason": storable(reason)})
        if held:
            meters.ended(State.BROKEN, None, job.language_name)
        return held

    def release(self, job: ClaimedJob) -> bool:
        """Give the claim back; nothing ran."""
        values = {"b_id": job.id, "b_token": job.token}
        return self.first(leasing.RELEASE, values) is not None

    def end(
        self, statement: Executable, job: ClaimedJob, attempt: dict[str, Any], values: dict[str, Any]
    ) -> bool:
        """Record an attempt by one of the statements that end one, with what it left if it left anything."""
        values = end_values(job, attempt, values)
        if "kept" in attempt:
            statement = finishing.WITH_LEAVINGS[statement]
            values["kept"] = json_text(attempt["kept"])
            values |= {f"a_{name}": column(attempt[name]) for name in finishing.LEFT_FIELDS}
        faults.at("ending", job.id)
        held = self.first(statement, values) is not None
        faults.at("ended", job.id)
        return held

    def first(self, statement: Executable, parameters: dict[str, Any]) -> Any | None:
        """Run a statement whose effect is worth waiting for: the database may be restarting.

        Repeating is safe; if the first try did commit, the token is gone and the second changes nothing.
        """
        return patiently(lambda: self._hot.first(statement, parameters))

    def first_hasty(self, statement: Executable, parameters: dict[str, Any]) -> Any | None:
        """The same for an effect that a crash of the database may forget."""
        return patiently(lambda: self._hot_hasty.first(statement, parameters))

    def all(self, statement: Executable, parameters: dict[str, Any]) -> Sequence[Row[Any]]:
        """Every row of a question."""

        def ask() -> Sequence[Row[Any]]:
            with self._durable.connect() as connection:
                return connection.execute(statement, parameters).all()

        return patiently(ask)

    # --- many jobs --------------------------------------------------------------------------------

    def heartbeat(self, held: Mapping[UUID, UUID]) -> set[UUID]:
        """Extend leases, given as tokens with the ids of their jobs; the tokens that still hold."""
        with self._reserved.connect() as connection:
            values = {"tokens": list(held), "ids": list(held.values()), "b_lease_s": self.lease_s}
            rows = connection.execute(leasing.HEARTBEAT, values)
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
            broken = [row.id for row in connection.execute(losing.BREAK_LOST)]
            patience = {sweeping.patience_of(queue): seconds for queue, seconds in after_s.items()}
            overdue = connection.execute(sweeping.OVERDUE, {**patience, "most": most}).all()
            if overdue:
                connection.execute(losing.REQUEUE_LOST, {"ids": [row.id for row in overdue]})
            return broken, [(row.id, queue_of(row.next_state, row.priority, row.runtime)) for row in overdue]

    def offered(self) -> frozenset[str]:
        """The tiers that live workers offer."""
        with self._sweeping.connect() as connection:
            live = connection.execute(worker_statements.LIVE_WORKERS)
            return frozenset(name for row in live for name in row.facts.get("runtimes") or ())

    def break_stranded(self, runtimes: Iterable[Runtime], *, after_s: int) -> list[UUID]:
        """End the jobs that have waited for so long for one of these tiers."""
        values = {"runtimes": [each.value for each in runtimes], "after_s": after_s}
        with self._sweeping.begin() as connection:
            return [row.id for row in connection.execute(sweeping.BREAK_STRANDED, values)]

    def forget_keys(self, *, hours: int, most: int) -> int:
        """Forget old Idempotency-Keys; how many."""
        with self._sweeping.begin() as connection:
            forgotten = connection.execute(sweeping.FORGET_KEYS, {"hours": hours, "most": most})
            return int(forgotten.rowcount)

    # --- ourselves --------------------------------------------------------------------------------

    def report(self, instance: str, *, ready: bool, why_not: str | None, facts: dict[str, Any]) -> None:
        """Say how this worker is."""
        values = {"instance": instance, "ready": ready, "why_not": storable(why_not), "facts": facts}
        with self._reserved.connect() as connection:
            connection.execute(worker_statements.REPORT_WORKER, values)

    def forget(self, instance: str) -> None:
        """Say that this worker leaves."""
        with self._reserved.connect() as connection:
            connection.execute(worker_statements.FORGET_WORKER, {"b_instance": instance})


def end_values(job: ClaimedJob, attempt: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a statement that ends an attempt."""
    record = {f"a_{name}": column(attempt.get(name)) for name in finishing.ATTEMPT_FIELDS}
    return {"b_id": job.id, "b_token": job.token, **values, **record}
