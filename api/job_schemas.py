"""Jobs as answers carry them, alone and in lists."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from api.file_schemas import Input, Leavings
from api.schemas import Answer
from domain.states import Outcome, Priority, Runtime, State, Verdict


class Limits(Answer):
    """The limits that apply."""

    timeout_s: int
    memory_mb: int
    cpus: float
    output_bytes: int
    cpu_s: int | None
    compile_s: int = 30


class Usage(Answer):
    """What a job took. Null where it is not known, or not yet."""

    queue_s: float | None
    wall_s: float | None
    compile_s: float | None
    cpu_s: float | None
    peak_memory_bytes: int | None
    oom_kills: int | None
    sandbox_start: Literal["warm", "cold"] | None
    sandbox_start_s: float | None
    sandbox_reused: bool | None


class AttemptSummary(Answer):
    """One run of the code, in short. It has a `verdict`, or a `failure` of the sandbox or its worker."""

    number: int
    verdict: Verdict | None
    failure: str | None
    wall_s: float | None
    compile_s: float | None
    sandbox_start: Literal["warm", "cold"] | None
    cached: bool
    round: int | None
    model: str | None
    cost_usd: str | None
    scripted: bool
    check_passed: bool | None
    note: str | None


class JobLinks(Answer):
    """Paths of related things."""

    self: str
    attempts: str
    events: str


class JobSummary(Answer):
    """A job as lists show it."""

    id: UUID
    state: State
    verdict: Verdict | None
    reason: str | None
    language: str
    profile: str
    labels: dict[str, str]
    reuse: Literal["never", "caller"]
    runtime: Runtime
    rerun_of: UUID | None
    batch_id: UUID | None
    priority: Priority
    cache: bool
    outcome: Outcome | None
    model: str | None
    cost_usd: str
    cost_complete: bool
    scripted: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: JobLinks


Encoding = Literal["utf-8", "base64"]


class Cut(Answer):
    """What is kept of a stream that is not kept whole, in bytes: head, tail, and all that was written."""

    kept_head: int
    kept_tail: int
    total: int


class Outputs(Answer):
    """How a program ended and what it wrote; `…_bytes` counts what it wrote, not what was kept.

    Where `…_truncated` is not null, the text is the head and the tail, with nothing between them.
    """

    exit_code: int | None
    signal: int | None
    stdout: str
    stdout_encoding: Encoding
    stdout_bytes: int
    stdout_truncated: Cut | None
    stderr: str
    stderr_encoding: Encoding
    stderr_bytes: int
    stderr_truncated: Cut | None


class Policy(Answer):
    """Which models a task may use, and how often."""

    model: str
    route: Literal["cost", "speed", "accuracy"] | None
    required_accuracy: float | None
    fallbacks: list[str] | None
    max_attempts: int
    preset: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    larger_profile: bool
    asked: list[str] = Field(default=[], description="Which of these the request gave in place of the preset.")


class Check(Answer):
    """How a task's result is judged."""

    tests: str | None = None
    stdout: str | None = None


class Job(JobSummary, Outputs, Leavings):
    """A job. Outputs, artifacts, results, usage and, of a task, the code are those of its last attempt."""

    code: str | None
    task: str | None
    policy: Policy | None
    check: Check | None
    budget_usd: str | None
    limits: Limits
    files: list[Input]
    usage: Usage
    attempts: list[AttemptSummary]


class PageLinks(Answer):
    """Paths of this page and the next."""

    self: str
    next: str | None


class JobList(Answer):
    """A page of jobs, newest first. `next_cursor` is null on the last page."""

    jobs: list[JobSummary]
    next_cursor: str | None
    links: PageLinks
