"""What a task is about and how demanding it is, by its words. Pure; data/routing.toml holds the words.

>>> routing = load_routing()
>>> routing.class_of("What should I design?").name
'complex'
>>> routing.class_of("Shuffle my playlist").name
'moderate'
>>> routing.subject_of("Clean these financial records")
'finance'
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path

_WORD = re.compile(r"\w+(?:-\w+)*")
ORDERS = ("cost", "speed", "accuracy")


@dataclass(frozen=True, slots=True)
class Complexity:
    """A class of tasks: the words that mark it, the model that suits it, and how to go on without it."""

    name: str
    words: frozenset[str]
    model: str
    max_tokens: int
    then: str


@dataclass(frozen=True)
class Routing:
    """Classes from the most demanding to the least, and subjects in the order in which they are looked for."""

    classes: tuple[Complexity, ...]
    default: Complexity
    good_accuracy: float
    subjects: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def class_of(self, text: str) -> Complexity:
        """The most demanding class that has a word of the text; the default where none has."""
        words = _words(text)
        return next((each for each in self.classes if each.words & words), self.default)

    def subject_of(self, text: str) -> str | None:
        """The first subject that has a word of the text."""
        words = _words(text)
        return next((name for name, marks in self.subjects.items() if marks & words), None)

    @cached_property
    def models(self) -> frozenset[str]:
        """The models that classes name."""
        return frozenset(each.model for each in self.classes)


def _words(text: str) -> set[str]:
    """The words of a text; one with hyphens counts whole and in its parts."""
    found = set(_WORD.findall(text.lower()))
    return found | {part for word in found for part in word.split("-")}


def load_routing(path: Path | None = None) -> Routing:
    """The rules in `path`, or those that come with us.

    Raises:
        ValueError: the file is not as it must be.
    """
    source = files("domain").joinpath("data", "routing.toml") if path is None else path
    data = tomllib.loads(source.read_text(encoding="utf-8"))
    try:
        classes = tuple(
            Complexity(name, frozenset(entry["words"]), entry["model"], entry["max_tokens"], entry["then"])
            for name, entry in data["classes"].items()
        )
        default = next(each for each in classes if each.name == data["default"])
        good = float(data["good_accuracy"])
    except (KeyError, StopIteration, TypeError) as e:
        raise ValueError(f"routing.toml: {e!r} is missing or wrong") from e
    if wrong := [each.name for each in classes if each.then not in ORDERS]:
        raise ValueError(f"routing.toml: `then` of {', '.join(wrong)} must be one of {', '.join(ORDERS)}")
    subjects = {name: frozenset(words) for name, words in data.get("subjects", {}).items()}
    return Routing(classes, default, good, subjects)
