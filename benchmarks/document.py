"""What a run found, as it is kept in JSON: the measurements, the machine, the targets."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.stats import Summary, summary

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table: times in milliseconds, a rate per second, or both."""

    key: str
    title: str
    ms: Summary | None = None
    per_s: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_times(cls, key: str, title: str, ms: list[float], **facts: Any) -> "Measurement":
        """From single times."""
        return cls(key, title, ms=summary(ms), facts=facts)


@dataclass(frozen=True, slots=True)
class CpuPerJob:
    """Milliseconds of CPU that a job took, by who spent them."""

    title: str
    jobs: int
    ms: dict[str, float]


@dataclass(slots=True)
class Document:
    """A run. `complete`: all sections, all repetitions."""

    when: str
    complete: bool
    machine: dict[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    cpu_per_job: list[CpuPerJob] = field(default_factory=list)

    def add(self, found: Iterable[Measurement | CpuPerJob]) -> None:
        """Keep what a section measured."""
        for one in found:
            if isinstance(one, CpuPerJob):
                self.cpu_per_job.append(one)
            else:
                self.measurements.append(one)

    def find(self, key: str) -> Measurement | None:
        """The measurement of that key; None if it was not made."""
        return next((one for one in self.measurements if one.key == key), None)

    def time(self, key: str, which: str = "p50") -> float | None:
        """A percentile of a measurement."""
        found = self.find(key)
        return None if found is None or found.ms is None else getattr(found.ms, which)

    def rate(self, key: str) -> float | None:
        """The rate of a measurement."""
        found = self.find(key)
        return None if found is None else found.per_s


def save(document: Document, targets: list[dict[str, Any]], path: Path) -> None:
    """Write it, rounded: digits beyond the third are noise."""
    content = {"schema": SCHEMA, **asdict(document), "targets": targets}
    path.write_text(json.dumps(_rounded(content), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Document:
    """Read what `save` wrote. The targets are judged anew from the measurements."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {content.get('schema')}, not {SCHEMA}")
    document = Document(content["when"], content["complete"], content["machine"])
    for one in content["measurements"]:
        ms = one.pop("ms")
        document.measurements.append(Measurement(**one, ms=Summary(**ms) if ms else None))
    document.cpu_per_job = [CpuPerJob(**one) for one in content["cpu_per_job"]]
    return document


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
