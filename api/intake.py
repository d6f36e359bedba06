"""From a parsed body to a job that may be stored: all that can be wrong is found here."""

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from api.offered import Offered
from api.problems import FieldError, invalid
from api.request_schemas import MOST_TEXT_BYTES, CheckRequest, FileRequest, JobRequest, LimitsRequest
from api.tasks import TaskIntake, WantedTask
from domain.files import MB
from domain.languages import Language
from domain.limits import LimitError, Limits, Profile
from domain.states import Runtime, State
from telemetry.context import CURRENT

_UNKNOWN = "extra_forbidden"
_NUMBERS = frozenset({"int_type", "float_type", "int_from_float"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that passed, and the limits and the tier it gets; `task` is None for plain code."""

    request: JobRequest
    limits: Limits
    runtime: Runtime
    profile: Profile
    language: Language
    task: WantedTask | None = None

    @property
    def most_input_bytes(self) -> int:
        """What its files may have together: they lie in memory, and the program needs some of it."""
        files, fixed = self.profile.files, self.profile.fixed
        return min(files.inputs_mb, fixed.work_mb, self.limits.memory_mb // 2) * MB

    def row(self) -> dict[str, Any]:
        """Its columns of `jobs`."""
        request = self.request
        row = {
            "code": request.code,
            "task": None,
            "language": request.language,
            "profile": request.profile,
            "limits": self.limits.as_dict(),
            "stdin": request.stdin.encode(),
            "args": request.args,
            "env": request.env,
            "labels": request.labels,
            "reuse": request.reuse,
            "runtime": self.runtime.value,
            "priority": request.priority,
            "cache": request.cache,
            "policy": None,
            "check_by": None,
            "budget_usd": None,
            "next_state": State.RUNNING.value,
        }
        if (traceparent := CURRENT.get()) is not None:
            row["traceparent"] = traceparent
        return row if self.task is None else row | self.task.row()


class Intake:
    """Checks requests against what this service offers."""

    def __init__(
        self,
        offered: Offered,
        profiles: dict[str, Profile],
        max_code_bytes: int,
        tasks: TaskIntake,
        runtime: Runtime = Runtime.RUNC,
    ) -> None:
        self.tasks = tasks
        self._offered = offered
        self.profiles = profiles
        self.runtime = runtime  # where neither request nor caller says
        self._max_code_bytes = max_code_bytes

    def check(self, body: dict[str, Any], bound: Runtime | None = None) -> Wanted:
        """The job that `body` asks for; `bound`: the only tier its caller may use.

        Raises:
            Problem: 422 with every field that is wrong; 503 for a language that no worker has. Whether a task's
                model is served is not looked at.
        """
        try:
            request = JobRequest.model_validate(body)
        except ValidationError as error:
            raise invalid(*self._errors(error, body)) from None
        self._one_of_code_and_task(request)
        language, profile, limits = self._limits(request)
        runtime = self._runtime(request, bound)
        self._sizes(request)
        if request.task is None:
            self.tasks.no_task(request)
            return Wanted(request, limits, runtime, profile, language)
        return Wanted(request, limits, runtime, profile, language, self.tasks.check(request, language))

    def _one_of_code_and_task(self, request: JobRequest) -> None:
        if (request.code is None) == (request.task is None):
            found = "neither is given" if request.code is None else "both are given"
            raise invalid(
                FieldError("code", f"give exactly one of code and task; {found}"),
                FieldError("task", f"give exactly one of code and task; {found}"),
            )

    def _limits(self, request: JobRequest) -> tuple[Language, Profile, Limits]:
        language = self._offered.language(request.language)
        allowed = self._offered.profiles(request.language, language)
        profile = self.profiles.get(request.profile)
        if profile is None or request.profile not in allowed:
            raise invalid(FieldError("profile", f"is not offered for {request.language}", sorted(allowed)))
        asked = request.limits
        try:
            limits = profile.resolve(
                {
                    "timeout_s": asked.timeout_s,
                    "memory_mb": asked.memory_mb,
                    "cpus": asked.cpus,
                    "output_bytes": asked.output_bytes,
                    "cpu_s": asked.cpu_s,
                    "compile_s": asked.compile_s,
                },
            )
        except LimitError as error:
            raise invalid(
                FieldError(
                    f"limits.{error.field}",
                    f"must be {error.allowed} in the profile {profile.name}",
                    error.allowed,
                ),
            ) from None
        return language, profile, limits

    def _runtime(self, request: JobRequest, bound: Runtime | None) -> Runtime:
        asked = None if request.runtime is None else Runtime(request.runtime)
        if asked is not None and bound is not None and asked is not bound:
            raise invalid(FieldError("runtime", "is not the tier that this caller is bound to", [bound.value]))
        wanted = asked or bound or self.runtime
        # Never another one in its place; a tier that nobody offers is told at once, not after a wait.
        tiers = self._offered.tiers
        if tiers is not None and wanted not in tiers:
            allowed = tiers if bound is None else tiers & {bound}
            raise invalid(FieldError("runtime", f"no worker offers {wanted.value}", sorted(allowed)))
        return wanted

    def _sizes(self, request: JobRequest) -> None:
        most = self._max_code_bytes
        if request.code is not None and (len(request.code) > most or len(request.code.encode()) > most):
            raise invalid(FieldError("code", "is too large", f"at most {most} bytes"))
        if request.args and sum(len(a.encode()) for a in request.args) > MOST_TEXT_BYTES:
            raise invalid(FieldError("args", "are too large", f"at most {MOST_TEXT_BYTES} bytes in all"))
        if request.env and sum(len(k) + len(v.encode()) for k, v in request.env.items()) > MOST_TEXT_BYTES:
            raise invalid(FieldError("env", "is too large", f"at most {MOST_TEXT_BYTES} bytes in all"))

    def _errors(self, error: ValidationError, body: dict[str, Any]) -> list[FieldError]:
        return [self._error(e, body) for e in error.errors(include_url=False, include_input=False)[:20]]

    def _error(self, found: Any, body: dict[str, Any]) -> FieldError:
        where = [str(part)[:64] for part in found["loc"]]
        if where[-1] == "[key]":  # pydantic: the key itself is wrong
            where.pop()
        field = ".".join(where)
        if found["type"] == _UNKNOWN:
            return FieldError(field, "is not a known field", _known_fields(where[:-1]))
        if where[0] == "limits" and len(where) == 2:
            return FieldError(field, _number_message(where[1]), self._allowed(where[1], body))
        if found["type"] == "literal_error":
            return FieldError(field, "is not one of the allowed values", _literals(where[0]))
        if where[0] == "budget_usd":  # pydantic tells of each type that it may have
            return FieldError("budget_usd", "must be a number, or a decimal as text")
        return FieldError(field, found["msg"][:1].lower() + found["msg"][1:])

    def _allowed(self, limit: str, body: dict[str, Any]) -> str | None:
        name = body.get("profile")
        profile = self.profiles.get(name if isinstance(name, str) else "standard")
        choice = profile.choices.get(limit) if profile else None
        return f"from {choice.least:g} to {choice.most:.15g}" if choice else None


def _number_message(limit: str) -> str:
    return "must be a number" if limit == "cpus" else "must be a whole number"


def _known_fields(path: list[str]) -> list[str]:
    within: dict[str, type[BaseModel]] = {"limits": LimitsRequest, "check": CheckRequest}
    if path[:1] == ["files"]:
        return list(FileRequest.model_fields)
    return list(within[path[0]].model_fields if len(path) == 1 else JobRequest.model_fields)


def _literals(field: str) -> list[str]:
    """What a field may be that must be one of a few words."""
    annotation = JobRequest.model_fields[field].annotation
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is Literal:
            return list(get_args(kind))
    return []
