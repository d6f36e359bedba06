"""What goes wrong, as exceptions. The tree:

RetortError
    ConfigError          the configuration cannot be used
    Unreachable          nobody answers, after all retries
    UnexpectedAnswer     something answers that is not Retort, or a proxy before it
    StillRunning         the job had not ended in time; it goes on, and `job` is how it stood
    ProgramFailed        `Job.must_succeed` found that it did not
    Refused              the service said no; `problem` is its problem document
        BadRequest …     one class for each type of problem: docs/api.md says when each occurs
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from retort.client.results import Batch, Job

TYPE_PREFIX = "urn:retort:problem:"


class RetortError(Exception):
    """What all errors of the client are."""


class ConfigError(RetortError):
    """The configuration cannot be used."""


class Unreachable(RetortError):
    """Nobody answers at the service's address."""


class UnexpectedAnswer(RetortError):
    """An answer that Retort does not give; `status` is its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StillRunning(RetortError):
    """A job, or a batch, had not ended within the time that its caller would wait.

    It goes on; `job` is how it stood.
    """

    def __init__(self, job: "Job | Batch", waited_s: float) -> None:
        super().__init__(f"{job.id} is {job.state} after {waited_s:g} s; it goes on")
        self.job = job


class ProgramFailed(RetortError):
    """A job did not end well; `job` says how."""

    def __init__(self, job: "Job") -> None:
        ending = (job.verdict or job.state).replace("_", " ")
        last = job.stderr.strip().rpartition("\n")[2]
        why = job.reason or last
        super().__init__(f"job {job.id}: {ending}{f': {why}' if why else ''}")
        self.job = job


class Refused(RetortError):
    """The service answered with a problem document.

    `problem` is the whole document; `type`, `status`, `detail`, `request_id` and `errors` are parts of it.
    `retry_after_s` is when to come again, where the service says so.
    """

    slug: ClassVar[str] = ""
    _kinds: ClassVar[dict[str, type["Refused"]]] = {}

    def __init__(
        self, problem: Mapping[str, Any], status: int, retry_after_s: float | None = None, hint: str = ""
    ) -> None:
        self.problem = dict(problem)
        self.status = status
        self.retry_after_s = retry_after_s
        self.type = str(problem.get("type", ""))
        self.detail = str(problem.get("detail") or "")
        self.request_id = str(problem.get("request_id") or "")
        self.errors: list[dict[str, Any]] = [e for e in problem.get("errors") or () if isinstance(e, dict)]
        super().__init__(self._text() + hint)

    def __init_subclass__(cls, slug: str, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.slug = slug
        Refused._kinds[TYPE_PREFIX + slug] = cls

    @classmethod
    def of(
        cls, problem: Mapping[str, Any], status: int, retry_after_s: float | None = None, hint: str = ""
    ) -> "Refused":
        """The exception for a problem; for a type that this client does not know, `Refused` itself."""
        return cls._kinds.get(str(problem.get("type")), Refused)(problem, status, retry_after_s, hint)

    @classmethod
    def types(cls) -> dict[str, type["Refused"]]:
        """The class for each type of problem."""
        return dict(cls._kinds)

    def _text(self) -> str:
        lines = [f"{self.problem.get('title') or 'refused'}: {self.detail or self.status}"]
        for error in self.errors:
            allowed = error.get("allowed")
            listed = ", ".join(map(str, allowed)) if isinstance(allowed, list) else allowed
            more = f" (allowed: {listed})" if listed else ""
            lines.append(f"  {error.get('field')}: {error.get('message')}{more}")
        return "\n".join(lines)


class BadJson(Refused, slug="bad-json"):
    """400: the body is not well-formed."""


class BadRequest(Refused, slug="bad-request"):
    """400: the request is malformed."""


class Unauthorized(Refused, slug="unauthorized"):
    """401: no API key, or none that is valid."""


class Forbidden(Refused, slug="forbidden"):
    """403: the key lacks the scope that is needed."""


class NotFound(Refused, slug="not-found"):
    """404: there is no such thing, or it is somebody else's."""


class MethodNotAllowed(Refused, slug="method-not-allowed"):
    """405."""


class BodyTimeout(Refused, slug="body-timeout"):
    """408: the body did not arrive in time."""


class InUse(Refused, slug="in-use"):
    """409: a job that has not ended needs it."""


class Conflict(Refused, slug="conflict"):
    """409: there is such a thing already."""


class JobEnded(Refused, slug="job-ended"):
    """409: too late to cancel."""


class JobUnfinished(Refused, slug="job-unfinished"):
    """409: too early to delete."""


class BodyTooLarge(Refused, slug="body-too-large"):
    """413."""


class StorageFull(Refused, slug="storage-full"):
    """413: the caller's files would take too much room."""


class UnsupportedMediaType(Refused, slug="unsupported-media-type"):
    """415."""


class RangeNotSatisfiable(Refused, slug="range-not-satisfiable"):
    """416."""


class Invalid(Refused, slug="invalid"):
    """422: a field is unknown or outside of what is allowed; `errors` says which, and what is."""


class IdempotencyKeyReused(Refused, slug="idempotency-key-reused"):
    """422: the key made something else."""


class RateLimited(Refused, slug="rate-limited"):
    """429: too many requests."""


class QuotaExceeded(Refused, slug="quota-exceeded"):
    """429: a quota of the caller is used up."""


class Internal(Refused, slug="internal"):
    """500: a defect of the service; its log has more under `request_id`."""


class NoGateway(Refused, slug="no-gateway"):
    """503: a task, but the service has no model."""


class Overloaded(Refused, slug="overloaded"):
    """503: too many jobs wait, or too many streams are open."""


class Unavailable(Refused, slug="unavailable"):
    """503: the service cannot answer now."""
