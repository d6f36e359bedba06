"""Attempts as answers carry them, with what models were asked for each."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from api.file_schemas import Leavings
from api.job_schemas import AttemptSummary, Limits, Outputs, Usage
from api.schemas import Answer
from domain.states import Verdict


class AttemptLinks(Answer):
    """Paths of related things."""

    self: str
    job: str


class PromptMessage(Answer):
    """One message of a conversation with a model."""

    role: Literal["user", "assistant"]
    content: str


class Prompt(Answer):
    """What a model was asked."""

    system: str | None
    messages: list[PromptMessage]


class ModelCall(Answer):
    """One question to a model. It has an `answer` or a `failure`; its cost is null where unknown."""

    id: UUID
    gateway: str
    model: str
    model_version: str | None
    request_id: str | None
    prompt: Prompt
    parameters: dict[str, Any]
    answer: str | None
    finish: str | None
    failure: str | None
    detail: str | None
    status: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    estimated: bool
    price: dict[str, Any] | None
    cost_usd: str | None
    latency_s: float | None
    first_byte_s: float | None
    cache_hit: bool
    scripted: bool
    created_at: datetime


class SkippedModel(Answer):
    """A model that was not asked, and why."""

    model: str
    gateway: str | None
    reason: str


class ModelChoice(Answer):
    """Which model was asked, and why."""

    model: str
    gateway: str
    reason: str
    skipped: list[SkippedModel]


class Attempt(Outputs, Leavings):
    """One run of the code. `code` is null where it is the job's own."""

    cached: bool
    round: int | None
    model: str | None
    scripted: bool
    cost_usd: str | None
    choice: ModelChoice | None
    calls: list[ModelCall]
    check_passed: bool | None
    note: str | None
    profile: str
    limits: Limits

    job_id: UUID
    number: int
    verdict: Verdict | None
    failure: str | None
    code: str | None
    image: str | None
    image_digest: str | None
    runtime: str | None
    started_at: datetime
    finished_at: datetime
    usage: Usage
    links: AttemptLinks


class AttemptList(Answer):
    """All attempts of a job, in order."""

    attempts: list[AttemptSummary]
