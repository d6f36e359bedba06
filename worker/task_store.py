"""What tasks keep in the database: their moves, every call of a model, and the two caches."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain import task_statements as statements
from domain import usage
from domain.ids import new_id
from domain.limits import Limits
from domain.states import State
from domain.tasks import Draft
from worker import meters
from worker.claimed import ClaimedJob
from worker.storable import json_text, storable
from worker.store import Store


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended; `reason` is None for a success."""

    verdict: str
    outcome: str
    reason: str | None
    model: str | None


class TaskStore:
    """Statements on tasks. As in `Store`, False means that the lease was lost and nothing changed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- moves ------------------------------------------------------------------------------------

    def hand_over(self, job: ClaimedJob, round_: int, draft: Draft) -> bool:
        """The program of this round is there; queue the job for a sandbox.

        What the round cost is put in by the statement. Were it forgotten in a crash of the database, the stored
        answer would be found again.
        """
        values = {
            "b_round": round_,
            "b_draft": json_text(draft.as_dict()),
            "b_id": job.id,
            "b_token": job.token,
        }
        return self._store.first_hasty(statements.HAND_OVER, values) is not None

    def next_round(
        self, job: ClaimedJob, round_: int, *, profile: str, limits: Limits, attempt: dict[str, Any]
    ) -> bool:
        """Record the attempt that failed and queue the job for a model."""
        values = {"b_round": round_, "b_profile": profile, "b_limits": json_text(limits.as_dict())}
        return self._store.end(statements.NEXT_ROUND, job, attempt, values)

    def finish(self, job: ClaimedJob, round_: int, end: TaskEnd, *, attempt: dict[str, Any]) -> bool:
        """Record the last attempt and end the job."""
        values = {
            "b_round": round_,
            "b_verdict": end.verdict,
            "b_reason": storable(end.reason),
            "b_outcome": end.outcome,
            "b_model": storable(end.model),
        }
        held = self._store.end(statements.FINISH_TASK, job, attempt, values)
        if held:
            meters.ended(State.FINISHED, end.verdict, job.language_name)
        return held

    def postpone(self, job: ClaimedJob, *, pause_s: float, reason: str, batch: bool) -> bool:
        """No model can be had now: the job waits; `batch`: with the batch work from now on."""
        values = {"b_pause_s": pause_s, "b_reason": storable(reason), "b_batch": batch}
        return self._moved(statements.POSTPONE, job, values)

    def _moved(self, statement: Any, job: ClaimedJob, values: dict[str, Any]) -> bool:
        return self._store.first(statement, {"b_id": job.id, "b_token": job.token, **values}) is not None

    # --- history ----------------------------------------------------------------------------------

    def record_call(self, job: ClaimedJob, call: dict[str, Any]) -> bool:
        """Record a call and what it cost, whether or not the lease holds; whether it does."""
        return self._record(_call_values(job, call))

    def record_and_hand_over(self, job: ClaimedJob, call: dict[str, Any], draft: Draft) -> bool:
        """The same for an answer that has a program: it is queued for a sandbox with it."""
        values = _call_values(job, call)
        more = {"b_id": job.id, "b_round": call["round"], "b_draft": json_text(draft.as_dict())}
        if self._store.first(statements.RECORD_AND_HAND_OVER, {**values, **more}) is not None:
            return True
        self._record(values)  # it was paid for all the same
        return False

    def _record(self, values: dict[str, Any]) -> bool:
        row = self._store.first(statements.RECORD_CALL, values)
        return row is not None and bool(row.mine)

    def answers(self, job_id: UUID) -> list[Row[Any]]:
        """The calls that gave an answer, in order."""
        return list(self._store.all(statements.ANSWERS, {"b_job_id": job_id}))

    def rounds(self, job_id: UUID) -> list[Row[Any]]:
        """The attempts that ended a round, in order."""
        return list(self._store.all(statements.ROUNDS, {"b_job_id": job_id}))

    def spent(self, job_id: UUID) -> Decimal:
        """What the calls of a job cost so far, as far as prices are known."""
        (row,) = self._store.all(statements.COST, {"b_job_id": job_id, "b_round": 0})
        return Decimal(row.cost_usd)

    def round_cost(self, job_id: UUID, round_: int) -> tuple[Decimal | None, bool]:
        """What a round's calls cost, None where a price is unknown; whether a scripted model answered."""
        (row,) = self._store.all(statements.COST, {"b_job_id": job_id, "b_round": round_})
        return (Decimal(row.cost_usd) if row.complete else None), bool(row.scripted)

    def spent_today(self, caller_id: UUID) -> tuple[str, Decimal]:
        """The database's day, and what the caller's calls of it cost in US dollars."""
        (row,) = self._store.all(usage.SPENT_TODAY, {"caller_id": caller_id})
        return str(row.day), Decimal(row.spent_usd)

    # --- caches -----------------------------------------------------------------------------------

    def get(self, key: str, caller: str) -> str | None:
        """A kept answer of a model, as JSON; counts the hit."""
        values = {"b_key": bytes.fromhex(key), "b_caller_id": UUID(caller)}
        row = self._store.first(statements.CACHED_ANSWER, values)
        return None if row is None else json_text(row.answer)

    def put(self, key: str, caller: str, job: str, entry: str) -> None:
        """Keep an answer of a model."""
        values = {"b_key": bytes.fromhex(key), "b_caller_id": UUID(caller), "b_job_id": UUID(job)}
        self._store.first(statements.KEEP_ANSWER, {**values, "b_answer": entry})

    def cached_result(self, key: bytes, caller_id: UUID) -> Row[Any] | None:
        """The result of an equal run; counts the hit."""
        values = {"b_key": key, "b_caller_id": caller_id}
        return self._store.first(statements.CACHED_RESULT, values)

    def keep_result(
        self, key: bytes, job: ClaimedJob, *, result: dict[str, Any], stdout: bytes, stderr: bytes
    ) -> None:
        """Keep the result of a run."""
        values = {
            "b_key": key,
            "b_caller_id": job.caller_id,
            "b_job_id": job.id,
            "b_result": json_text(result),
            "b_stdout": stdout,
            "b_stderr": stderr,
        }
        self._store.first(statements.KEEP_RESULT, values)


def _call_values(job: ClaimedJob, call: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = dict(_columns({"id": new_id(), "job_id": job.id, **call}))
    priced = call.get("cost_usd") is not None or not call.get("answer")
    return {**values, "b_priced": priced, "b_token": job.token}


def _columns(call: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in statements.CALL_FIELDS:
        value = call.get(name)
        if name in ("estimated", "cache_hit", "scripted"):
            value = bool(value)
        yield f"c_{name}", json_text(value) if isinstance(value, dict) else storable(value)
