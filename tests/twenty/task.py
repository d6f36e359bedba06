"""What a row of the tables of twenty is."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task: a wrong program, its verdict, what the feedback must say, the right program.

    `needs` are the words that a person would need to repair the program. The scripted model gives the right
    program only to a question that has the first of them; the test looks for all.
    """

    name: str
    wrong: str
    verdict: str
    needs: tuple[str, ...]
    right: str
    check: dict[str, str] | None = None
    limits: dict[str, Any] = field(default_factory=dict)


def fails(name: str, wrong: str, *needs: str, right: str, verdict: str = "error", **limits: Any) -> Task:
    """A program that does not end well; its task has no check."""
    return Task(name, wrong, verdict, needs, right, limits=limits)


def differs(name: str, wrong: str, found: str, expected: str, *needs: str, right: str) -> Task:
    """A program that ends well and prints `found` as its first line instead of `expected`."""
    said = f"line 1 of the output is {found!r}, expected is {expected!r}"
    return Task(name, wrong, "check_failed", (said, *needs), right, check={"stdout": expected})


def tested(name: str, wrong: str, tests: str, *needs: str, right: str) -> Task:
    """A program that ends well and fails its tests."""
    return Task(name, wrong, "check_failed", needs, right, check={"tests": tests})
