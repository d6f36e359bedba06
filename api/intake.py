"""From a parsed body to a job that may be stored: all that can be wrong is found here."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from api.offered import Offered
from api.problems import FieldError, Kind, Problem, invalid
from api.schemas import MOST_TEXT_BYTES, FileRequest, JobRequest, LimitsRequest
from domain.files import MB
from domain.languages import Language
from domain.limits import LimitError, Limits, Profile

_UNKNOWN = "extra_forbidden"
_NUMBERS = frozenset({"int_type", "float_type", "int_from_float"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that passed, and the limits it gets."""

    request: JobRequest
    limits: Limits
    profile: Profile
    language: Language

    @property
    def most_input_bytes(self) -> int:
        """What its files may have together: they lie in memory, and the program needs some of it."""
        files, fixed = self.profile.files, self.profile.fixed
        return min(files.inputs_mb, fixed.work_mb, self.limits.memory_mb // 2) * MB

    def row(self) -> dict[str, Any]:
        """Its columns of `jobs`."""
        request = self.request
        return {
            "code": request.code,
            "language": request.language,
            "profile": request.profile,
            "limits": self.limits.as_dict(),
            "stdin": request.stdin.encode(),
            "args": request.args,
            "env": request.env,
            "labels": request.labels,
            "reuse": request.reuse,
        }


class Intake:
    """Checks requests against what this service offers."""

    def __init__(
        self,
        offered: Offered,
        profiles: dict[str, Profile],
        max_code_bytes: int,
    ) -> None:
        self._offered = offered
        self.profiles = profiles
        self._max_code_bytes = max_code_bytes

    def check(self, body: dict[str, Any]) -> Wanted:
        """The job that `body` asks for.

        Raises:
            Problem: 422 with every field that is wrong; 503 for a task while there is no gateway, and for a
                language that no worker has.
        """
        try:
            request = JobRequest.model_validate(body)
        except ValidationError as error:
            raise invalid(*self._errors(error, body)) from None
        self._one_of_code_and_task(request)
        language, profile, limits = self._limits(request)
        self._sizes(request)
        if request.task is not None:
            raise Problem(
                Kind.NO_GATEWAY,
                "a task needs a model, and no model gateway is configured on this service; "
                "send `code` instead, which works",
            )
        return Wanted(request, limits, profile, language)

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
            return FieldError(field, "is not one of the allowed values", ["never", "caller"])
        return FieldError(field, found["msg"][:1].lower() + found["msg"][1:])

    def _allowed(self, limit: str, body: dict[str, Any]) -> str | None:
        name = body.get("profile")
        profile = self.profiles.get(name if isinstance(name, str) else "standard")
        choice = profile.choices.get(limit) if profile else None
        return f"from {choice.least:g} to {choice.most:.15g}" if choice else None


def _number_message(limit: str) -> str:
    return "must be a number" if limit == "cpus" else "must be a whole number"


def _known_fields(path: list[str]) -> list[str]:
    if path == ["limits"]:
        return list(LimitsRequest.model_fields)
    return list(FileRequest.model_fields if path[:1] == ["files"] else JobRequest.model_fields)
