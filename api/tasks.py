"""What can be wrong with a task, beyond what is wrong with any job; and what is stored of it."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from api.problems import FieldError, Kind, Problem, invalid
from api.request_schemas import JobRequest
from domain.catalogue import Catalogue, Model, Preset
from domain.languages import Language
from domain.states import State
from domain.tasks import CheckKind, Policy, TaskRules

#: Fields that say something only of a task.
TASK_FIELDS = (
    "model",
    "route",
    "required_accuracy",
    "fallbacks",
    "max_attempts",
    "budget_usd",
    "check",
    "preset",
    "temperature",
    "max_tokens",
    "larger_profile",
)

AUTO = "auto"

#: What a token is taken for where only the order of magnitude matters.
CHARACTERS_PER_TOKEN = 4

WHAT_TO_SET = (
    "a task needs a model, and no model gateway is configured on any worker; set RETORT_GATEWAY_URL and "
    "RETORT_GATEWAY_KEY (or RETORT_GATEWAY_KEY_FILE), or RETORT_GATEWAYS, where a worker runs; "
    "`code` works without"
)


@dataclass(frozen=True, slots=True)
class WantedTask:
    """A task that passed, as far as it can be told without knowing which models are served."""

    request: JobRequest
    policy: Policy
    budget_usd: Decimal | None

    def row(self) -> dict[str, Any]:
        """Its columns of `jobs`, beside those of every job."""
        check = self.request.check
        return {
            "task": self.request.task,
            "policy": self.policy.as_dict(),
            "check_by": None if check is None else check.model_dump(exclude_none=True),
            "budget_usd": self.budget_usd,
            "next_state": State.GENERATING.value,
        }


class TaskIntake:
    """Checks tasks against the rules and the catalogue."""

    def __init__(self, rules: TaskRules, catalogue: Catalogue) -> None:
        self._rules = rules
        self._catalogue = catalogue

    def no_task(self, request: JobRequest) -> None:
        """That code comes without what only tasks have.

        Raises:
            Problem: 422.
        """
        wrong = [name for name in TASK_FIELDS if name in request.model_fields_set]
        if wrong:
            raise invalid(*(FieldError(name, "is for tasks; this job has code") for name in wrong))

    def check(self, request: JobRequest, language: Language) -> WantedTask:
        """The task that a request asks for.

        Raises:
            Problem: 422 with what is wrong.
        """
        self._text(request)
        self._check_by(request, language)
        preset = self._preset(request)
        return WantedTask(request, self._policy(request, preset), self._budget(request))

    def served(self, wanted: WantedTask, served: Collection[str]) -> None:
        """That some model which is served can do a task; `served` are the catalogue's names.

        Raises:
            Problem: 503 where nothing is served, 422 where nothing that is served fits.
        """
        if not served:
            raise Problem(Kind.NO_GATEWAY, WHAT_TO_SET)
        policy = wanted.policy
        self._known("model", policy.model, served)
        for name in policy.fallbacks or ():
            self._known("fallbacks", name, served)
        allowed = self._allowed(policy, served)
        if not allowed:
            raise invalid(FieldError("model", "is not served by any gateway", sorted(served)))
        self._accurate_enough(policy, allowed)
        self._fits(wanted, allowed)

    # --- one field each ---------------------------------------------------------------------------

    def _text(self, request: JobRequest) -> None:
        text = request.task or ""
        if not text.strip():
            raise invalid(FieldError("task", "is empty"))
        most = self._rules.task_bytes
        if len(text.encode()) > most:
            raise invalid(FieldError("task", "is too large", f"at most {most} bytes"))

    def _check_by(self, request: JobRequest, language: Language) -> None:
        check = request.check
        if check is None:
            return
        if (check.tests is None) == (check.stdout is None):
            raise invalid(FieldError("check", "give exactly one of tests and stdout", ["tests", "stdout"]))
        text = check.tests if check.tests is not None else check.stdout or ""
        if len(text.encode()) > self._rules.check_bytes:
            raise invalid(FieldError("check", "is too large", f"at most {self._rules.check_bytes} bytes"))
        if check.tests is None:
            return
        if language.name not in self._rules.tested_languages:
            raise invalid(
                FieldError(
                    "check.tests",
                    f"cannot be run in {language.name}; use check.{CheckKind.STDOUT}",
                    sorted(self._rules.tested_languages),
                )
            )
        if not check.tests.strip():
            raise invalid(FieldError("check.tests", "is empty"))

    def _preset(self, request: JobRequest) -> Preset | None:
        if request.preset is None:
            return None
        preset = self._catalogue.presets.get(request.preset)
        if preset is None:
            raise invalid(FieldError("preset", "is not known", sorted(self._catalogue.presets)))
        return preset

    def _budget(self, request: JobRequest) -> Decimal | None:
        if request.budget_usd is None:
            return None
        most = self._rules.budget_most_usd
        try:
            budget = Decimal(str(request.budget_usd))
        except InvalidOperation:
            budget = Decimal("NaN")
        if not budget.is_finite() or not 0 < budget <= most:
            raise invalid(FieldError("budget_usd", "is outside the range", f"more than 0, at most {most:f}"))
        return budget

    def _policy(self, request: JobRequest, preset: Preset | None) -> Policy:
        attempts = request.max_attempts
        if attempts is None:
            attempts = self._rules.attempts_default
        if not 1 <= attempts <= self._rules.attempts_most:
            raise invalid(
                FieldError("max_attempts", "is outside the range", f"from 1 to {self._rules.attempts_most}")
            )
        accuracy = request.required_accuracy
        if accuracy is not None and not 0 <= accuracy <= 1:
            raise invalid(FieldError("required_accuracy", "is outside the range", "from 0 to 1"))
        if request.fallbacks is not None and len(request.fallbacks) > self._rules.fallbacks_most:
            raise invalid(FieldError("fallbacks", "are too many", f"at most {self._rules.fallbacks_most}"))
        model = request.model
        if model is None:
            model = AUTO if preset is None else preset.model
        if request.route is not None and model != AUTO:
            raise invalid(FieldError("route", "is for the model auto; this request names one"))
        settings: dict[str, Any] = {}
        if preset is not None:
            card = self._catalogue.find(model)
            settings = preset.settings_for(card if card is not None else self._catalogue.models[preset.model])
        asked = {name: getattr(request, name) for name in ("temperature", "max_tokens")}
        asked = {name: value for name, value in asked.items() if value is not None}
        settings |= asked
        return Policy(
            model=model,
            route=request.route,
            required_accuracy=accuracy,
            fallbacks=None if request.fallbacks is None else tuple(request.fallbacks),
            max_attempts=attempts,
            preset=request.preset,
            temperature=settings.get("temperature"),
            top_p=settings.get("top_p"),
            max_tokens=settings.get("max_tokens"),
            asked=tuple(asked),
            larger_profile=request.larger_profile,
        )

    # --- against what is served -------------------------------------------------------------------

    def _known(self, field: str, name: str, served: Collection[str]) -> None:
        if name != AUTO and self._catalogue.find(name) is None and name not in served:
            raise invalid(FieldError(field, f"there is no model {name[:80]!r}", [AUTO, *sorted(served)]))

    def _allowed(self, policy: Policy, served: Collection[str]) -> list[Model]:
        """The models that may be asked, of those that are served."""
        if policy.model == AUTO:
            names = list(served)
        else:
            names = [policy.model, *(policy.fallbacks or ())]
            if policy.fallbacks is None:
                names += list(served)
        cards = (self._catalogue.find(name) or Model(name, listed=False) for name in names)
        return [card for card in cards if card.name in served]

    def _accurate_enough(self, policy: Policy, allowed: list[Model]) -> None:
        if policy.required_accuracy is None:
            return
        best = max((card.accuracy for card in allowed if card.accuracy is not None), default=None)
        if best is None or best < policy.required_accuracy:
            reached = "no accuracy is known" if best is None else f"at most {best:g}"
            raise invalid(
                FieldError("required_accuracy", "is reached by no model that this task may use", reached)
            )

    def _fits(self, wanted: WantedTask, allowed: list[Model]) -> None:
        windows = [card.context_tokens for card in allowed]
        if any(window is None for window in windows):
            return
        # A worker reads a longer task in chunks, which are shorter than a model's context.
        most = max(window for window in windows if window is not None) * max(1, self._rules.chunks_most)
        if len(wanted.request.task or "") > most * CHARACTERS_PER_TOKEN:
            raise invalid(
                FieldError(
                    "task",
                    "is longer than any model takes that it may use; data belongs in files",
                    f"about {most * CHARACTERS_PER_TOKEN} characters ({most} tokens)",
                )
            )
