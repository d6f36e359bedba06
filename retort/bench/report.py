"""What a benchmark came to, as one document: what the screen, the sheets and the page are made from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

from retort.bench.figures import Figures, by_category, by_task, figures
from retort.bench.measurement import EXECUTION, Judgement, Measurement
from retort.bench.metrics import EXECUTION_METRICS, MODEL_METRICS, Metric, as_json, best
from retort.bench.plan import Plan
from retort.savings import error_cost_to_route_up

FORMAT = 1

#: Reasons that are told of a task that was not right.
_REASONS = 5


@dataclass(frozen=True, slots=True)
class Section:
    """A table: metrics as rows, subjects as columns."""

    title: str
    metrics: tuple[Metric, ...]
    found: Mapping[str, Figures]

    def as_dict(self) -> dict[str, Any]:
        """As JSON: for each metric the value of each subject, why one is unknown, and who is best."""
        rows: dict[str, Any] = {}
        for metric in self.metrics:
            winner = best(metric, self.found)
            notes = {name: note for name, each in self.found.items() if (note := metric.note(each)) is not None}
            rows[metric.name] = {
                "title": metric.title,
                "unit": metric.unit.value,
                "values": {name: as_json(metric.value(each)) for name, each in self.found.items()},
                "unknown_because": notes,
                "best": None if winner is None else list(winner.subjects),
                "close": None if winner is None else winner.close,
            }
        return rows


@dataclass(frozen=True, slots=True)
class Report:
    """The measurements, and what is known of how they came about."""

    plan: Plan
    measurements: tuple[Measurement, ...]
    started_at: str
    complete: bool

    def of(self, subject: str) -> list[Measurement]:
        """What was measured of a subject."""
        return [each for each in self.measurements if each.subject == subject]

    def models(self) -> Section | None:
        """The models against each other."""
        if not self.plan.models:
            return None
        return Section("Models", MODEL_METRICS, {name: figures(self.of(name)) for name in self.plan.models})

    def execution(self) -> Section | None:
        """The execution side alone."""
        if not self.plan.execution:
            return None
        return Section("Execution side", EXECUTION_METRICS, {EXECUTION: figures(self.of(EXECUTION))})

    def sections(self) -> list[Section]:
        """Both, as far as they were measured."""
        return [each for each in (self.models(), self.execution()) if each is not None]

    def categories(self) -> dict[str, dict[str, Figures]]:
        """Category -> subject -> what it came to."""
        return self._parts(by_category)

    def tasks(self) -> dict[str, dict[str, Figures]]:
        """Task -> subject -> what it came to."""
        return self._parts(by_task)

    def reasons(self, task: str, subject: str) -> list[str]:
        """How the runs of a task ended that were not right."""
        told = (
            each.why for each in self.of(subject) if each.task == task and each.judgement is not Judgement.RIGHT
        )
        return list(dict.fromkeys(told))[:_REASONS]

    def versions(self) -> dict[str, list[str]]:
        """The versions of each model that gateways named."""
        return {
            name: sorted({version for each in self.of(name) for version in each.versions})
            for name in self.plan.models
        }

    def unlike(self) -> list[str]:
        """Tasks that were not asked of all models in the same words; there must be none."""
        asked: dict[str, set[str]] = {}
        for each in self.measurements:
            if each.subject != EXECUTION:
                asked.setdefault(each.task, set()).add(each.asked)
        return sorted(name for name, digests in asked.items() if len(digests) > 1)

    def worth(self) -> list[dict[str, Any]]:
        """Where of two models the dearer is the more accurate: what a wrong result must cost for it to pay."""
        section = self.models()
        if section is None:
            return []
        found = []
        for (cheap, one), (dear, other) in permutations(section.found.items(), 2):
            cost, more = one.projected(1), other.projected(1)
            share, larger = one.accuracy.value, other.accuracy.value
            if cost is None or more is None or share is None or larger is None:
                continue
            if cost < more and share < larger:
                gain = Decimal(str(larger)) - Decimal(str(share))
                usd = error_cost_to_route_up(cost, more, gain)
                found.append({"cheap": cheap, "dear": dear, "error_cost_usd": usd})
        return found

    def notes(self) -> list[str]:
        """What a reader must know before believing a figure."""
        notes = []
        if not self.complete:
            notes.append("This benchmark is not complete: more was planned than was measured.")
        scripted = [name for name in self.plan.models if any(each.scripted for each in self.of(name))]
        if scripted:
            notes.append(f"Scripted, no real models: {', '.join(scripted)}.")
        if unlike := self.unlike():
            notes.append(f"Not asked of all models in the same words: {', '.join(unlike)}.")
        if any(each.estimated for each in self.measurements):
            notes.append("Some tokens were estimated, as a gateway did not count them; so were their costs.")
        if count := sum(each.taken_up for each in self.measurements):
            notes.append(f"Runs taken up after an interruption: {count}. The service's clock tells their time.")
        return notes

    def as_dict(self) -> dict[str, Any]:
        """The whole report as JSON."""
        models, execution = self.models(), self.execution()
        return {
            "format": FORMAT,
            "started_at": self.started_at,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "complete": self.complete,
            "notes": self.notes(),
            "plan": {**self.plan.content(), "tasks": [task.name for task in self.plan.tasks]},
            "versions": self.versions(),
            "models": None if models is None else models.as_dict(),
            "worth": [{**each, "error_cost_usd": as_json(each["error_cost_usd"])} for each in self.worth()],
            "execution": None if execution is None else execution.as_dict(),
            "categories": _short(self.categories()),
            "tasks": {
                task: {name: {**each, "not_right": self.reasons(task, name)} for name, each in found.items()}
                for task, found in _short(self.tasks()).items()
            },
        }

    def _parts(self, split: Any) -> dict[str, dict[str, Figures]]:
        found: dict[str, dict[str, Figures]] = {}
        for subject in self.plan.subjects():
            for part, measurements in split(self.of(subject)).items():
                found.setdefault(part, {})[subject] = figures(measurements)
        return found


def probes(measurements: Iterable[Measurement]) -> dict[str, list[tuple[int, str, Figures]]]:
    """Categories that were driven to several depths: of each, depth, subject, and what it came to."""
    found: dict[str, dict[tuple[int, str], list[Measurement]]] = {}
    for each in measurements:
        if each.depth is not None and each.subject != EXECUTION:
            found.setdefault(each.category, {}).setdefault((each.depth, each.subject), []).append(each)
    return {
        category: [(depth, subject, figures(parts)) for (depth, subject), parts in sorted(places.items())]
        for category, places in found.items()
    }


_PART_METRICS = tuple(
    each for each in MODEL_METRICS if each.name in ("runs", "errors", "accuracy", "recovery", "avg", "cost")
)


def _short(parts: Mapping[str, Mapping[str, Figures]]) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        part: {
            name: {metric.name: as_json(metric.value(each)) for metric in _PART_METRICS}
            for name, each in found.items()
        }
        for part, found in parts.items()
    }
