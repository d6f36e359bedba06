"""What goes in and out, as types. `JobRequest` is enforced on every request; the others are the truth that
the OpenAPI document tells, and tests hold real answers against them.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from domain.files import MOST_INPUTS, LeftOut
from domain.results import Result
from domain.states import Outcome, Priority, Runtime, State, Verdict

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
    cpu_s: int | None = Field(
        default=None, description="Seconds of CPU time of all processes together; none unless asked for."
    )
    memory_mb: int | None = Field(default=None, description="Memory in units of 2**20 bytes.")
    cpus: float | None = Field(default=None, description="CPUs; fractions are allowed.")
    output_bytes: int | None = Field(
        default=None, description="Bytes of stdout and stderr together; a program that writes more is killed."
    )
    compile_s: int | None = Field(
        default=None, description="Seconds of wall time for the compiler, where the language has one."
    )


class FileRequest(_Strict):
    """A file for the work folder: exactly one of `content`, `base64` and `file`."""

    name: str = Field(description="Relative to the work folder; folders in it are made.")
    content: str | None = Field(default=None, description="Text, written as UTF-8.")
    base64: str | None = Field(default=None, description="Bytes, in the base64 of RFC 4648, section 4.")
    file: str | None = Field(default=None, description="The id of an uploaded file (`POST /v1/files`).")


class CheckRequest(_Strict):
    """How a task's result is judged: exactly one of these."""

    tests: Text | None = Field(
        default=None,
        description="Code in the job's language that runs after the program and fails where it is wrong.",
    )
    stdout: Text | None = Field(
        default=None,
        description="What the program must print, but for spaces at line ends and empty lines at the end.",
    )


class JobRequest(_Strict):
    """A job: exactly one of `code` and `task`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["code"]}, {"required": ["task"]}]},
    )

    code: Text | None = Field(default=None, description="The program.")
    task: Text | None = Field(default=None, description="What a model shall write a program for.")
    language: Text = Field(
        default="python",
        description="A name, or a name and a version, as in `python@3.11`; `GET /v1/languages` lists them.",
    )
    profile: Text = "standard"
    limits: LimitsRequest = LimitsRequest()
    stdin: str = Field(default="", description="Standard input, sent as UTF-8.")
    args: list[Text] = Field(default=[], max_length=MOST_ARGS, description="32 KiB in all.")
    env: dict[EnvName, Text] = Field(
        default={},
        max_length=MOST_ENV,
        description="Added to the program's environment; 32 KiB in all, names included.",
    )
    files: list[FileRequest] = Field(
        default=[],
        max_length=MOST_INPUTS,
        description="Files for the work folder; their number and sizes have limits in the profile.",
    )
    labels: dict[LabelName, LabelValue] = Field(default={}, max_length=MOST_LABELS)
    reuse: Literal["never", "caller"] = Field(
        default="never",
        description="`caller` allows a sandbox in which an earlier job of the same caller ran.",
    )
    runtime: Literal["runc", "runsc"] | None = Field(
        default=None,
        description="The tier to run on; where it is not given, the caller's own or the service's.",
    )
    priority: Literal["interactive", "batch"] = Field(
        default="interactive", description="`batch` runs while nothing interactive waits."
    )
    cache: bool = Field(
        default=False,
        description="Take a result of yours from an equal earlier run, and keep this one: say so only of "
        "programs that give the same result each time.",
    )
    model: Text | None = Field(
        default=None,
        max_length=200,
        description="Of a task: a model's name or alias, or `auto`, which is the default.",
    )
    route: Literal["cost", "speed", "accuracy"] | None = Field(
        default=None, description="Of a task: what `auto` prefers."
    )
    required_accuracy: float | None = Field(default=None, description="Of a task: models below are not asked.")
    fallbacks: list[Annotated[Text, Field(max_length=200)]] | None = Field(
        default=None,
        description="Of a task: models to ask when the first cannot be had; an empty list allows none.",
    )
    max_attempts: int | None = Field(default=None, description="Of a task: programs tried, 4 by default.")
    budget_usd: float | str | None = Field(
        default=None,
        description="Of a task: US dollars its models may cost; a number or a decimal as text.",
    )
    check: CheckRequest | None = Field(default=None, description="Of a task: how its result is judged.")
    preset: Text | None = Field(
        default=None, max_length=100, description="Of a task: named settings for the model."
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="Of a task: of its models, in place of the preset's; a model that takes none gets none.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="Of a task: of one answer, in place of the preset's; at most what the model can give.",
    )
    larger_profile: bool = Field(
        default=False,
        description="Of a task: after a timeout or lack of memory it may move to the profile's larger one.",
    )


#: A job as it was, but for what this says. Its fields are those of a request, without the job itself.
RerunRequest: type[_Strict] = create_model(
    "RerunRequest",
    __base__=_Strict,
    __doc__="What shall be other than in the job that is run again; everything else is as it was.",
    **{
        name: (field.annotation, field)
        for name, field in JobRequest.model_fields.items()
        if name not in {"code", "task"}
    },  # type: ignore[call-overload]
)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


#: What requests and answers carry, for schemas in modules of their own.
Strict = _Strict
Answer = _Answer


class Limits(_Answer):
    """The limits that apply."""

    timeout_s: int
    memory_mb: int
    cpus: float
    output_bytes: int
    cpu_s: int | None
    compile_s: int = 30


class Usage(_Answer):
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


class AttemptSummary(_Answer):
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


class JobLinks(_Answer):
    """Paths of related things."""

    self: str
    attempts: str
    events: str


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


class Cut(_Answer):
    """What is kept of a stream that is not kept whole, in bytes: head, tail, and all that was written."""

    kept_head: int
    kept_tail: int
    total: int


class Outputs(_Answer):
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


class Input(_Answer):
    """A file that the request brought; `file` is the id of an uploaded one."""

    name: str
    size: int
    sha256: str
    file: UUID | None


class ArtifactLinks(_Answer):
    """Where an artifact can be fetched."""

    self: str


class Artifact(_Answer):
    """A file that the program left. `base64` is its content where `inline` asked for it, else null."""

    name: str
    size: int
    media_type: str
    sha256: str
    base64: str | None
    links: ArtifactLinks


class LeftOutFile(_Answer):
    """Something in the work folder that did not become an artifact."""

    name: str
    reason: LeftOut


class Leavings(_Answer):
    """What a program left. `left_out_more` counts what was left out and is not in `left_out`."""

    artifacts: list[Artifact]
    left_out: list[LeftOutFile]
    left_out_more: int
    results: list[Result]


class Policy(_Answer):
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


class Check(_Answer):
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


class AttemptLinks(_Answer):
    """Paths of related things."""

    self: str
    job: str


class ArtifactList(Leavings):
    """What an attempt left."""

    attempt: int


class PromptMessage(_Answer):
    """One message of a conversation with a model."""

    role: Literal["user", "assistant"]
    content: str


class Prompt(_Answer):
    """What a model was asked."""

    system: str | None
    messages: list[PromptMessage]


class ModelCall(_Answer):
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


class SkippedModel(_Answer):
    """A model that was not asked, and why."""

    model: str
    gateway: str | None
    reason: str


class ModelChoice(_Answer):
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


class AttemptList(_Answer):
    """All attempts of a job, in order."""

    attempts: list[AttemptSummary]


class File(_Answer):
    """An uploaded file."""

    id: UUID
    name: str
    size: int
    sha256: str
    created_at: datetime
    links: ArtifactLinks


class PageLinks(_Answer):
    """Paths of this page and the next."""

    self: str
    next: str | None


class JobList(_Answer):
    """A page of jobs, newest first. `next_cursor` is null on the last page."""

    jobs: list[JobSummary]
    next_cursor: str | None
    links: PageLinks


class LanguageVersion(_Answer):
    """A version of a language that some worker has. `name` is what a job says that wants just this one.

    `profiles` are those in which that name is run by this image, `packages` what programs can import.
    """

    name: str
    version: str
    image: str
    profiles: list[str]
    system: str | None
    packages: dict[str, str]


class Language(_Answer):
    """A language, and the profiles it can be run in. Without `versions` no worker can run it now."""

    name: str
    title: str
    compiled: bool
    profiles: list[str]
    versions: list[LanguageVersion]


class LanguageList(_Answer):
    """The languages."""

    languages: list[Language]


class Range(_Answer):
    """What a limit may be, both ends allowed, and where a request is silent (null: no such limit)."""

    least: float
    default: float | None
    most: float


class Profile(_Answer):
    """A named set of limits. What is `fixed` a request cannot choose."""

    name: str
    title: str
    limits: dict[str, Range]
    fixed: dict[str, int]
    files: dict[str, int]


class ProfileList(_Answer):
    """The profiles."""

    profiles: list[Profile]


class Histogram(_Answer):
    """How often something took how long: `buckets` are pairs of seconds and how many took at most so long."""

    buckets: list[tuple[float, int]]
    count: int
    sum_s: float


class SandboxStats(_Answer):
    """Sandboxes of all live workers together.

    `lent`: jobs, by how they got a sandbox. `hit_rate`: the share that did not wait. `cells`: now.
    """

    workers: int
    workers_ready: int
    tiers: dict[str, bool]
    jobs: int
    hit_rate: float | None
    lent: dict[str, int]
    cells: dict[str, int]
    cells_since_start: dict[str, int]
    memory_mb: int
    start_seconds: dict[str, Histogram]
    cold_wait_seconds: Histogram


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
    """Whether jobs will be run. `progress`: whether programs that could run are taken up, and not only whether
    there is somebody to take them.

    `tiers`: those that live workers offer, and whether one is ready there. `missing_languages`: those whose
    image no live worker has.
    """

    ready: bool
    database: Part
    redis: Part
    workers: Part
    progress: Part
    tiers: dict[str, bool]
    missing_languages: list[str]


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
