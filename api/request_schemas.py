"""What a job's request is. It is enforced on every request."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, create_model

from api.schemas import Strict, Text, no_nul
from domain.files import MOST_INPUTS

MOST_ARGS = 64
MOST_ENV = 64
MOST_LABELS = 16
MOST_TEXT_BYTES = 32 * 1024  # of all arguments, or all of the environment

EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
LabelName = Annotated[str, Field(min_length=1, max_length=63), AfterValidator(no_nul)]
LabelValue = Annotated[str, Field(max_length=256), AfterValidator(no_nul)]


class LimitsRequest(Strict):
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


class FileRequest(Strict):
    """A file for the work folder: exactly one of `content`, `base64` and `file`."""

    name: str = Field(description="Relative to the work folder; folders in it are made.")
    content: str | None = Field(default=None, description="Text, written as UTF-8.")
    base64: str | None = Field(default=None, description="Bytes, in the base64 of RFC 4648, section 4.")
    file: str | None = Field(default=None, description="The id of an uploaded file (`POST /v1/files`).")


class CheckRequest(Strict):
    """How a task's result is judged: exactly one of these."""

    tests: Text | None = Field(
        default=None,
        description="Code in the job's language that runs after the program and fails where it is wrong.",
    )
    stdout: Text | None = Field(
        default=None,
        description="What the program must print, but for spaces at line ends and empty lines at the end.",
    )


class JobRequest(Strict):
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
RerunRequest: type[Strict] = create_model(
    "RerunRequest",
    __base__=Strict,
    __doc__="What shall be other than in the job that is run again; everything else is as it was.",
    **{
        name: (field.annotation, field)
        for name, field in JobRequest.model_fields.items()
        if name not in {"code", "task"}
    },  # type: ignore[call-overload]
)
