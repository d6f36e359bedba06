"""What is measured, in which order. The order is fair: models take turns in going first."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from retort.bench.asking import Settings
from retort.bench.measurement import EXECUTION, key_of
from retort.bench.tasks import Task


@dataclass(frozen=True, slots=True)
class Item:
    """One measurement to make."""

    subject: str
    task: Task
    iteration: int

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return key_of(self.subject, self.task.name, self.iteration)


@dataclass(frozen=True, slots=True)
class Plan:
    """A benchmark. `batch` measurements are under way, `concurrency` at a time, then there is a pause."""

    tasks: tuple[Task, ...]
    models: tuple[str, ...] = ()
    iterations: int = 5
    concurrency: int = 4
    batch: int = 8
    pause_s: float = 0.1
    execution: bool = True
    burst: int = 0  # jobs at once, to see cold sandboxes
    settings: Settings = field(default_factory=Settings)

    def subjects(self) -> tuple[str, ...]:
        """The models, and the execution side."""
        return (*self.models, *((EXECUTION,) if self.execution else ()))

    def items(self) -> list[Item]:
        """Everything to measure but the burst, in order."""
        return [
            Item(subject, task, iteration)
            for iteration in range(1, self.iterations + 1)
            for number, task in enumerate(self.tasks)
            for subject in _turned(self._able(task), iteration + number)
        ]

    def _able(self, task: Task) -> list[str]:
        """The subjects for which a task has something."""
        return [
            subject
            for subject in self.subjects()
            if (task.program if subject == EXECUTION else task.task) is not None
        ]

    def content(self) -> dict[str, Any]:
        """All that its figures depend on, as JSON."""
        return {
            "models": list(self.models),
            "iterations": self.iterations,
            "concurrency": self.concurrency,
            "batch": self.batch,
            "pause_s": self.pause_s,
            "execution": self.execution,
            "burst": self.burst,
            "attempts": self.settings.attempts,
            "preset": self.settings.preset,
            "reuse": self.settings.reuse,
            "tasks": [task.content() for task in self.tasks],
        }

    def digest(self) -> str:
        """Equal for equal plans."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()


def batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """The items in groups."""
    for at in range(0, len(items), size):
        yield list(items[at : at + size])


def _turned(subjects: Sequence[str], by: int) -> Iterator[str]:
    if subjects:
        at = by % len(subjects)
        yield from (*subjects[at:], *subjects[:at])
