"""What goes in and out, as types. `JobRequest` is enforced on every request; the others are the truth that
the OpenAPI document tells, and tests hold real answers against them.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from domain.states import State, Verdict

MOST_ARGS = 64
MOST_ENV = 64
MOST_LABELS = 16
MOST_TEXT_BYTES = 32 * 1024  # of all arguments, or all of the environment


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul", "must not contain NUL characters")
    return text


#: PostgreSQL's text has no NUL, and neither has an argument or a variable of a process.
Text = Annotated[str, AfterValidator(_no_nul)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
LabelName = Annotated[str, Field(min_length=1, max_length=63), AfterValidator(_no_nul)]
LabelValue = Annotated[str, Field(max_length=256), AfterValidator(_no_nul)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class LimitsRequest(_Strict):
    """Limits that a job asks for; each must be within its profile's range (`GET /v1/profiles`)."""

    timeout_s: int | None = Field(default=None, description="Seconds of wall time.")
    memory_mb: int | None = Field(default=None, description="Memory in units of 2**20 bytes.")
    cpus: float | None = Field(default=None, description="CPUs; fractions are allowed.")
    output_bytes: int | None = Field(default=None, description="Bytes kept of stdout and stderr together.")


class JobRequest(_Strict):
    """A job: exactly one of `code` and `task`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["code"]}, {"required": ["task"]}]},
    )

    code: Text | None = Field(default=None, description="The program.")
    task: Text | None = Field(default=None, description="What a model shall write a program for.")
    language: Text = "python"
    profile: Text = "standard"
    limits: LimitsRequest = LimitsRequest()
    stdin: str = Field(default="", description="Standard input, sent as UTF-8.")
    args: list[Text] = Field(default=[], max_length=MOST_ARGS, description="32 KiB in all.")
    env: dict[EnvName, Text] = Field(
        default={},
        max_length=MOST_ENV,
        description="Added to the program's environment; 32 KiB in all, names included.",
    )
    labels: dict[LabelName, LabelValue] = Field(default={}, max_length=MOST_LABELS)
    reuse: Literal["never", "caller"] = Field(
        default="never",
        description="`caller` allows a sandbox in which an earlier job of the same caller ran.",
    )


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Limits(_Answer):
    """The limits that apply."""

    timeout_s: int
    memory_mb: int
    cpus: float
    output_bytes: int


class Usage(_Answer):
    """What a job took. Null where it is not known, or not yet."""

    queue_s: float | None
    wall_s: float | None
    cpu_s: float | None
    peak_memory_bytes: int | None
    oom_kills: int | None
    sandbox_start: Literal["warm", "cold"] | None
    sandbox_start_s: float | None
    sandbox_reused: bool | None


class AttemptSummary(_Answer):
    """One run of the code, in short. It has a `verdict`, or a `failure` of the sandbox or its worker."""

    number: int
    verdict: Verdict | None
    failure: str | None
    wall_s: float | None
    sandbox_start: Literal["warm", "cold"] | None


class JobLinks(_Answer):
    """Paths of related things."""

    self: str
    attempts: str


class JobSummary(_Answer):
    """A job as lists show it."""

    id: UUID
    state: State
    verdict: Verdict | None
    reason: str | None
    language: str
    profile: str
    labels: dict[str, str]
    reuse: Literal["never", "caller"]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: JobLinks


Encoding = Literal["utf-8", "base64"]


class Outputs(_Answer):
    """How a program ended and what it wrote; `…_bytes` counts what it wrote, not what was kept."""

    exit_code: int | None
    signal: int | None
    stdout: str
    stdout_encoding: Encoding
    stdout_bytes: int
    stdout_truncated: bool
    stderr: str
    stderr_encoding: Encoding
    stderr_bytes: int
    stderr_truncated: bool


class Job(JobSummary, Outputs):
    """A job. Outputs and usage are those of its last attempt."""

    code: str | None
    limits: Limits
    artifacts: list[Any]
    usage: Usage
    attempts: list[AttemptSummary]


class AttemptLinks(_Answer):
    """Paths of related things."""

    self: str
    job: str


class Attempt(Outputs):
    """One run of the code. `code` is null where it is the job's own."""

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


class AttemptList(_Answer):
    """All attempts of a job, in order."""

    attempts: list[AttemptSummary]


class PageLinks(_Answer):
    """Paths of this page and the next."""

    self: str
    next: str | None


class JobList(_Answer):
    """A page of jobs, newest first. `next_cursor` is null on the last page."""

    jobs: list[JobSummary]
    next_cursor: str | None
    links: PageLinks


class Language(_Answer):
    """A language, and the profiles it can be run in."""

    name: str
    title: str
    profiles: list[str]


class LanguageList(_Answer):
    """The languages."""

    languages: list[Language]


class Range(_Answer):
    """What a limit may be, both ends allowed, and what it is where a request is silent."""

    least: float
    default: float
    most: float


class Profile(_Answer):
    """A named set of limits. What is `fixed` a request cannot choose."""

    name: str
    title: str
    limits: dict[str, Range]
    fixed: dict[str, int]


class ProfileList(_Answer):
    """The profiles."""

    profiles: list[Profile]


class ModelPrice(_Answer):
    """Prices per million tokens in `currency`, as decimal text; one unit of it costs `usd_per_unit` dollars."""

    input: str
    output: str
    cache_read: str | None
    cache_write: str | None
    currency: str
    usd_per_unit: str
    source: str
    checked: str | None


class ModelGateway(_Answer):
    """A gateway that serves a model at the moment. `price` is its own, where it differs from the list."""

    name: str
    dialect: Literal["openai", "anthropic"]
    price: ModelPrice | None


class ModelLimit(_Answer):
    """Requests and tokens a minute, and requests under way; null: no limit."""

    name: str
    rpm: int | None
    tpm: int | None
    burst: int | None


class Model(_Answer):
    """The card of a model. `available`: a live worker can ask it. A null price is unknown, not nothing."""

    name: str
    title: str
    provider: str | None
    aliases: list[str]
    available: bool
    gateways: list[ModelGateway]
    price: ModelPrice | None
    context_tokens: int | None
    output_tokens: int | None
    capabilities: list[str]
    knowledge_until: str | None
    accuracy: float | None
    accuracy_source: str | None
    roles: list[str]
    suits: list[str]
    limits: list[ModelLimit]


class Preset(_Answer):
    """Settings for one kind of work, without those that its model refuses."""

    name: str
    title: str
    model: str
    temperature: float | None
    top_p: float | None
    max_tokens: int
    latency_ms: int | None


class ModelList(_Answer):
    """The models and the presets."""

    models: list[Model]
    presets: list[Preset]


class Health(_Answer):
    """The process answers."""

    status: Literal["ok"]


class Part(_Answer):
    """Whether one thing that the service needs is there; `why_not` is for a person."""

    ready: bool
    why_not: str | None = None


class Readiness(_Answer):
    """Whether jobs will be run."""

    ready: bool
    database: Part
    redis: Part
    workers: Part


class ProblemError(_Answer):
    """One thing wrong with one field."""

    field: str
    message: str
    allowed: str | list[str] | None = None


class ProblemDocument(_Answer):
    """RFC 9457. `type` is stable; docs/api.md lists them."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemError] | None = None
