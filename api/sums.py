"""What the jobs of a while came to, in a form that adds up: hours to days, days to a month.

>>> hour = Sums(words=Counter(ok=2, error=1), times={"run": Counter({0: 3})})
>>> day = Sums.of_json(hour.as_json())
>>> day.add(hour)
>>> day.words["ok"], day.times["run"][0]
(4, 6)
"""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

#: From submission to end; until the first step; a model's answer; the start of a sandbox; a run.
Stage = Literal["total", "waited", "answer", "start", "run"]


@dataclass(slots=True)
class Asked:
    """What one model was asked; `cost` in dollars, None where no price is known."""

    calls: int = 0
    cost: Decimal | None = None
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: "Asked") -> None:
        """Make this the sum of both."""
        self.calls += other.calls
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        if other.cost is not None:
            self.cost = other.cost if self.cost is None else self.cost + other.cost


@dataclass(slots=True)
class Sums:
    """Jobs by verdict or state, how often each stage took a time of which class (`api.classes`), and models."""

    words: Counter[str] = field(default_factory=Counter)
    times: dict[Stage, Counter[int]] = field(default_factory=dict)
    models: dict[str, Asked] = field(default_factory=dict)

    def add(self, other: "Sums") -> None:
        """Make this the sum of both."""
        self.words.update(other.words)
        for stage, found in other.times.items():
            self.times.setdefault(stage, Counter()).update(found)
        for model, asked in other.models.items():
            self.models.setdefault(model, Asked()).add(asked)

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return {
            "words": dict(self.words),
            "times": {stage: [list(found), list(found.values())] for stage, found in self.times.items()},
            "models": {
                model: [each.calls, each.input_tokens, each.output_tokens]
                + ([] if each.cost is None else [str(each.cost)])
                for model, each in self.models.items()
            },
        }

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> "Sums":
        """The inverse of `as_json`."""
        return cls(
            words=Counter(found["words"]),
            times={
                stage: Counter(dict(zip(*counted, strict=True))) for stage, counted in found["times"].items()
            },
            models={
                model: Asked(calls, Decimal(cost[0]) if cost else None, input_tokens, output_tokens)
                for model, (calls, input_tokens, output_tokens, *cost) in found["models"].items()
            },
        )
