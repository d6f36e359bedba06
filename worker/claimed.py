"""What a worker knows of a job that it claimed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.languages import split_wish
from domain.limits import Limits
from domain.quotas import Quotas
from domain.states import Priority, Runtime, State
from domain.tasks import Draft, Policy


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
    limited: bool = False  # its caller may run a certain number, maybe near it: its end makes room for another

    @property
    def language_name(self) -> str:
        """The language alone, without the version that was wished for."""
        return split_wish(self.language)[0]

    files: Sequence[dict[str, Any]] = ()  # name, size, sha256, and file: an uploaded one's id, or None
    inline_files: bytes = b""


def job_of(row: Row[Any], token: UUID) -> ClaimedJob:
    """The job of a claim's row."""
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
