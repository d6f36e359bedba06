"""What the service answers, as types. Fields have the service's own names: docs/api.md.

Fields that this client does not know yet are kept, as attributes and in `document`; those that an older service
does not send have a default. Words of closed sets (states, verdicts) are texts, so that a new one is no error.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from retort.client.errors import ProgramFailed

FINAL_STATES = frozenset({"finished", "cancelled", "broken"})
StreamName = Literal["stdout", "stderr"]


class Part(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


class Answer(Part):
    """A whole answer."""

    _document: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The answer that a JSON document is.

        Raises:
            pydantic.ValidationError: it is not such a document.
        """
        found = cls.model_validate(document)
        found._document = dict(document)
        return found

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document as the service sent it."""
        return self._document


class Usage(Part):
    """What a run took. None where it is not known, or not yet."""

    queue_s: float | None = None
    wall_s: float | None = None
    compile_s: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    oom_kills: int | None = None
    sandbox_start: str | None = None
    sandbox_start_s: float | None = None
    sandbox_reused: bool | None = None


class Limits(Part):
    """The limits that applied."""

    timeout_s: float | None = None
    memory_mb: int | None = None
    cpus: float | None = None
    output_bytes: int | None = None
    cpu_s: float | None = None
    compile_s: float | None = None


class Cut(Part):
    """What is kept of a stream that is not kept whole, in bytes."""

    kept_head: int
    kept_tail: int
    total: int


class AttemptSummary(Part):
    """One run of a job's code, in short."""

    number: int
    verdict: str | None = None
    failure: str | None = None
    wall_s: float | None = None
    compile_s: float | None = None
    sandbox_start: str | None = None
    cached: bool = False
    round: int | None = None
    model: str | None = None
    cost_usd: Decimal | None = None
    scripted: bool = False
    check_passed: bool | None = None
    note: str | None = None


class Artifact(Part):
    """A file that a program left."""

    name: str
    size: int
    media_type: str = "application/octet-stream"
    sha256: str = ""
    base64: str | None = None


class LeftOut(Part):
    """Something in the work folder that did not become an artifact."""

    name: str
    reason: str


class Outputs(Answer):
    """How a program ended, what it wrote and what it left.

    `stdout` and `stderr` are text; where a program did not write UTF-8, what is no text is replaced. `output`
    has the bytes.
    """

    exit_code: int | None = None
    signal: int | None = None
    stdout: str = ""
    stdout_encoding: str = "utf-8"
    stdout_bytes: int = 0
    stdout_truncated: Cut | None = None
    stderr: str = ""
    stderr_encoding: str = "utf-8"
    stderr_bytes: int = 0
    stderr_truncated: Cut | None = None
    artifacts: tuple[Artifact, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    left_out_more: int = 0
    results: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _as_text(cls, document: Any) -> Any:
        if not isinstance(document, Mapping):
            return document
        changed = {
            name: _bytes_of(document, name).decode(errors="replace")
            for name in ("stdout", "stderr")
            if document.get(f"{name}_encoding") == "base64"
        }
        return {**document, **changed} if changed else document

    def output(self, stream: StreamName = "stdout") -> bytes:
        """The bytes that the program wrote, as far as they were kept."""
        return _bytes_of(self.document, stream)


class Job(Outputs):
    """A job. Outputs, artifacts, results, usage and, of a task, the code are those of its last attempt.

    Those of a list have neither code nor outputs.
    """

    id: str
    state: str
    verdict: str | None = None
    reason: str | None = None
    outcome: str | None = None
    language: str = ""
    profile: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    reuse: str = ""
    runtime: str = ""
    priority: str = ""
    cache: bool = False
    rerun_of: str | None = None
    model: str | None = None
    cost_usd: Decimal = Decimal(0)
    cost_complete: bool = True
    scripted: bool = False
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    code: str | None = None
    task: str | None = None
    budget_usd: Decimal | None = None
    policy: dict[str, Any] | None = None
    check: dict[str, Any] | None = None
    limits: Limits = Limits()
    usage: Usage = Usage()
    attempts: tuple[AttemptSummary, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state in FINAL_STATES

    @property
    def ok(self) -> bool:
        """Whether its program ended well, and passed the check if there was one."""
        return self.state == "finished" and self.verdict == "ok" and self.outcome != "failed"

    def must_succeed(self) -> Self:
        """The job itself, if `ok`.

        Raises:
            ProgramFailed: it is not.
        """
        if not self.ok:
            raise ProgramFailed(self)
        return self


class Attempt(Outputs):
    """One run of a job's code in full; `calls` are the questions to models that led to it."""

    job_id: str
    number: int
    verdict: str | None = None
    failure: str | None = None
    code: str | None = None
    round: int | None = None
    model: str | None = None
    cost_usd: Decimal | None = None
    scripted: bool = False
    cached: bool = False
    check_passed: bool | None = None
    note: str | None = None
    profile: str = ""
    runtime: str | None = None
    image: str | None = None
    limits: Limits = Limits()
    usage: Usage = Usage()
    choice: dict[str, Any] | None = None
    calls: tuple[dict[str, Any], ...] = ()


class Batch(Answer):
    """Many jobs that were submitted together. `counts` are by state, `verdicts` of those that are finished."""

    id: str
    name: str | None = None
    state: str = "running"
    total: int = 0
    counts: dict[str, int] = Field(default_factory=dict)
    verdicts: dict[str, int] = Field(default_factory=dict)
    cost_usd: Decimal = Decimal(0)
    cost_complete: bool = True
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether all its jobs have ended."""
        return self.state == "ended"

    @property
    def done(self) -> int:
        """How many of its jobs have ended."""
        return self.total - sum(self.counts.get(state, 0) for state in ("queued", "generating", "running"))


class Event(Answer):
    """Something that happened to a job: `state`, `stdout`, `stderr`, `attempt`, `artifact` or `done`.

    `id` is its place: `events(job, after=id)` goes on behind it.
    """

    id: str
    kind: str
    data: dict[str, Any]

    @property
    def output(self) -> bytes:
        """Of `stdout` and `stderr`: the bytes."""
        if self.data.get("encoding") == "base64":
            return base64.b64decode(self.data["text"])
        return str(self.data.get("text", "")).encode()

    @property
    def artifact(self) -> Artifact | None:
        """Of `artifact`: the file that attempt `data["attempt"]` left; else None."""
        if self.kind != "artifact":
            return None
        return Artifact.model_validate({name: value for name, value in self.data.items() if name != "attempt"})


def _bytes_of(document: Mapping[str, Any], stream: str) -> bytes:
    text = document.get(stream) or ""
    return base64.b64decode(text) if document.get(f"{stream}_encoding") == "base64" else str(text).encode()
