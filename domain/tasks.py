"""The words of tasks that the API and the worker share: the policy of a job, its draft, why it stopped."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, Self


class Reason(StrEnum):
    """Why a task ended without success; the first word of its job's `reason`."""

    NO_CODE = "no_code"  # the model gave no program, or refused, until nothing was left to try
    MODEL_FAILED = "model_failed"  # no model could be asked, or none answered
    BUDGET_EXCEEDED = "budget_exceeded"  # the next call could have cost more than was left
    ATTEMPTS_USED = "attempts_used"  # `max_attempts` programs ran
    SAME_CODE = "same_code"  # the model gave a program again that had failed before
    SAME_ERROR = "same_error"  # two programs in a row failed in the same way
    CHECK_UNUSABLE = "check_unusable"  # the tests themselves do not compile

    def say(self, sentence: str) -> str:
        """What a job's `reason` holds."""
        return f"{self.value}: {sentence}"


#: What an attempt's `note` begins with where the tests themselves cannot be run.
UNUSABLE = "the check cannot be used"


class CheckKind(StrEnum):
    """How the result of a task is judged."""

    TESTS = "tests"
    STDOUT = "stdout"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which models a task may use and how often. What is None is for the catalogue and the settings to say.

    `larger_profile` allows the move to the profile's larger one after a timeout or lack of memory. `asked`
    names the settings of the model that the request itself gave, beside its preset.
    """

    model: str = "auto"
    route: str | None = None
    required_accuracy: float | None = None
    fallbacks: tuple[str, ...] | None = None
    max_attempts: int = 4
    preset: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    larger_profile: bool = False
    asked: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`; what another version stored beside is left out."""
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        for name in ("fallbacks", "asked"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Draft:
    """A generated program that waits to be run, and how it came about.

    `choice` says why this model; `cost_usd` is that of the round's calls, None where a price is unknown.
    """

    code: str
    model: str
    cost_usd: Decimal | None = None
    scripted: bool = False
    choice: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as a JSON object."""
        cost = None if self.cost_usd is None else str(self.cost_usd)
        return {
            "code": self.code,
            "model": self.model,
            "cost_usd": cost,
            "scripted": self.scripted,
            "choice": None if self.choice is None else dict(self.choice),
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        cost = stored.get("cost_usd")
        return cls(
            code=stored["code"],
            model=stored["model"],
            cost_usd=None if cost is None else Decimal(cost),
            scripted=bool(stored.get("scripted")),
            choice=stored.get("choice"),
        )


@dataclass(frozen=True, slots=True)
class TaskRules:
    """What a request for a task may choose. Sizes in bytes, money in US dollars."""

    attempts_default: int
    attempts_most: int
    task_bytes: int
    check_bytes: int
    budget_most_usd: Decimal
    fallbacks_most: int
    tested_languages: Sequence[str]
    chunks_most: int


def load_task_rules(path: Path | None = None) -> TaskRules:
    """The rules from `path` or from the file that comes with us."""
    if path is None:
        text = files("domain").joinpath("data", "tasks.toml").read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    return TaskRules(**tomllib.loads(text, parse_float=Decimal))
