"""What the service promises, held against what was measured."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.document import Document
from benchmarks.guarded import GUARDED, PLAIN

#: The floor that ratios refer to: what any service pays that makes a container per run.
FLOOR = "floor.true"
FLOOR_PARALLEL = "floor.true.parallel"

RECYCLED_RATES = tuple(f"e2e.recycled.{clients}" for clients in (1, 2, 4, 8, 16))
FRESH_RATES = tuple(f"e2e.fresh.{clients}" for clients in (4, 8))


#: What we add to a bare call of a gateway: the client in both of its ways, and all that is around it.
ADDED_BY_CLIENT = ("models.client.whole.added", "models.client.stream.added")
ADDED_BY_ALL = "models.port.added"
TASK = "models.task.overhead"
CACHED_RUN = "models.cached.run"
CACHED_ANSWER = "models.cached.answer"

KILLED = "hostile.kill.busy"
NEIGHBOUR = "hostile.neighbour."


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: the figure of a run, and its bound."""

    title: str
    unit: str
    bound: float
    at_most: bool  # else at least
    measured: Callable[[Document], float | None]

    def met(self, value: float | None) -> bool | None:
        """Whether a figure keeps the promise; None if it was not measured."""
        if value is None:
            return None
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True)
class Judged:
    """A target after a run."""

    title: str
    unit: str
    bound: float
    at_most: bool
    measured: float | None
    met: bool | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _best(document: Document, keys: tuple[str, ...]) -> float | None:
    return max((rate for key in keys if (rate := document.rate(key)) is not None), default=None)


def fresh_share(document: Document) -> float | None:
    """Jobs with a fresh container each, as a percentage of what the engine alone can do."""
    ours, floor = _best(document, FRESH_RATES), document.rate(FLOOR_PARALLEL)
    return None if ours is None or not floor else 100 * ours / floor


def worst_neighbour(document: Document) -> float | None:
    """The largest p95 of a neighbour beside a bomb, as a multiple of its p95 beside nothing."""
    idle = document.time(f"{NEIGHBOUR}idle", "p95")
    beside = [
        p95
        for one in document.measurements
        if one.key.startswith(NEIGHBOUR) and (p95 := document.time(one.key, "p95")) is not None
    ]
    return max(beside) / idle if idle else None


def _worst(document: Document, keys: tuple[str, ...]) -> float | None:
    return max((ms for key in keys if (ms := document.time(key)) is not None), default=None)


def guarded_latency(document: Document) -> float | None:
    """With all quotas and idempotency keys, as a multiple of without: the p50 of one client."""
    plain, guarded = document.time(f"{PLAIN}.latency"), document.time(f"{GUARDED}.latency")
    return guarded / plain if plain and guarded is not None else None


def guarded_rate(document: Document) -> float | None:
    """The same for the rate of several clients."""
    plain, guarded = document.rate(f"{PLAIN}.rate"), document.rate(f"{GUARDED}.rate")
    return guarded / plain if plain and guarded is not None else None


def warm_to_bare(language: str) -> Callable[[Document], float | None]:
    """Hello world in a waiting cell, as a multiple of the bare interpreter's."""

    def ratio(document: Document) -> float | None:
        warm = document.time(f"language.{language}.warm")
        bare = document.time(f"language.{language}.bare")
        return warm / bare if warm is not None and bare else None

    return ratio


TARGETS = (
    Target("driver round trip in a recycled cell, p50", "ms", 3, True, lambda d: d.time("driver.recycled")),
    Target(
        "computation with pandas, added by us, p50", "ms", 10, True, lambda d: d.time("driver.pandas.added")
    ),
    Target("end to end over HTTP, p50", "ms", 10, True, lambda d: d.time("e2e.latency.recycled")),
    Target("end to end over HTTP, p99", "ms", 40, True, lambda d: d.time("e2e.latency.recycled", "p99")),
    Target("jobs per second, recycled cells", "/s", 200, False, lambda d: _best(d, RECYCLED_RATES)),
    Target("POST with quotas and idempotency, p50 against without", "x", 1.2, True, guarded_latency),
    Target("POST with quotas and idempotency, rate against without", "x", 0.8, False, guarded_rate),
    Target("Python: hello in a waiting cell, p50", "ms", 3, True, lambda d: d.time("language.python.warm")),
    Target("JavaScript: hello in a waiting cell, against bare", "x", 1, True, warm_to_bare("javascript")),
    Target("R: hello in a waiting cell, against bare", "x", 1, True, warm_to_bare("r")),
    Target("Bash: hello in a waiting cell, against bare", "x", 1, True, warm_to_bare("bash")),
    Target("Rust: compiled hello in a waiting cell, against bare", "x", 1.2, True, warm_to_bare("rust")),
    Target("gateway client, added to a bare call, p50", "ms", 5, True, lambda d: _worst(d, ADDED_BY_CLIENT)),
    Target("whole way to a model, added to a bare call, p50", "ms", 50, True, lambda d: d.time(ADDED_BY_ALL)),
    Target("task to its result, without model and program, p50", "ms", 20, True, lambda d: d.time(TASK)),
    Target("cached computation over HTTP, p50", "ms", 50, True, lambda d: d.time(CACHED_RUN)),
    Target("cached answer of a model, p50", "ms", 5, True, lambda d: d.time(CACHED_ANSWER)),
    Target("busy programs dead after their limit, p99", "ms", 1000, True, lambda d: d.time(KILLED, "p99")),
    Target("a neighbour's p95 beside a bomb, worst", "x idle", 2, True, worst_neighbour),
    Target("jobs per second, fresh container each, share of the engine's rate", "%", 95, False, fresh_share),
)


def judge(document: Document) -> list[Judged]:
    """Every target with what was measured."""
    judged = []
    for target in TARGETS:
        value = target.measured(document)
        bounds = (target.title, target.unit, target.bound, target.at_most)
        judged.append(Judged(*bounds, value, target.met(value)))
    return judged
