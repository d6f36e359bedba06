"""The rows of the table: each metric with its unit, which way is better, and who is best.

A winner is named where there are at least two subjects, and none is unknown. It is called close where the 95 %
intervals of rates overlap: then more runs are needed before anybody can tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from retort.bench.figures import Figures
from retort.bench.stats import Rate, least_samples

Value = float | int | Decimal | Rate | None

#: Runs for which the cost is projected.
PROJECTED = 10_000


class Unit(StrEnum):
    """How a value is written."""

    COUNT = "count"
    SECONDS = "seconds"
    RATE = "rate"
    DOLLARS = "dollars"


class Better(StrEnum):
    """Which way is better."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row."""

    name: str
    title: str
    unit: Unit
    better: Better
    value: Callable[[Figures], Value]
    note: Callable[[Figures], str | None] = lambda _: None


def _few(percent: int) -> Callable[[Figures], str | None]:
    least = least_samples(percent)
    return lambda found: f"needs {least} runs, has {found.samples}" if found.samples < least else None


def _rate(name: str, title: str, rate: Callable[[Figures], Rate], nothing: str) -> Metric:
    """A row of rates; `nothing` says why there is none."""
    return Metric(name, title, Unit.RATE, Better.MORE, rate, lambda found: None if rate(found).of else nothing)


def _no_cost(found: Figures) -> str | None:
    return "the price of some calls is unknown" if found.runs and found.cost_usd is None else None


def _no_cold(found: Figures) -> str | None:
    return None if found.cold_starts else "no run met a cold sandbox"


def _per_success(found: Figures) -> str | None:
    return _no_cost(found) or (None if found.successes else "none was right")


COUNT, SECONDS, RATE, DOLLARS = Unit
LESS, MORE, NEITHER = Better

_COUNTS = (
    Metric("runs", "runs", COUNT, NEITHER, lambda f: f.runs),
    Metric("successes", "successful", COUNT, NEITHER, lambda f: f.successes),
    Metric("wrong", "wrong", COUNT, NEITHER, lambda f: f.wrong),
    Metric("errors", "errors", COUNT, LESS, lambda f: f.errors),
)
_LATENCIES = (
    Metric("avg", "latency, mean", SECONDS, LESS, lambda f: f.avg_s),
    Metric("p50", "latency, p50", SECONDS, LESS, lambda f: f.p50_s, _few(50)),
    Metric("p95", "latency, p95", SECONDS, LESS, lambda f: f.p95_s, _few(95)),
    Metric("p99", "latency, p99", SECONDS, LESS, lambda f: f.p99_s, _few(99)),
)
_RUN = Metric("run", "of it programs, mean", SECONDS, LESS, lambda f: f.run_s)
_COLD_START = Metric("cold_start", "cold start, mean", SECONDS, LESS, lambda f: f.cold_start_s, _no_cold)

MODEL_METRICS = (
    *_COUNTS,
    _rate("accuracy", "code accuracy", lambda f: f.accuracy, "nothing was judged"),
    _rate("at_once", "right at once", lambda f: f.at_once, "nothing was judged"),
    _rate("recovery", "error recovery", lambda f: f.recovery, "no first program was wrong"),
    _rate("mathematics", "mathematics", lambda f: f.mathematics, "none was judged"),
    _rate("visual", "visualization", lambda f: f.visual, "none was judged"),
    *_LATENCIES,
    Metric("model", "of it the model, mean", SECONDS, LESS, lambda f: f.model_s),
    _RUN,
    _COLD_START,
    Metric("input_tokens", "tokens in", COUNT, NEITHER, lambda f: f.input_tokens),
    Metric("output_tokens", "tokens out", COUNT, NEITHER, lambda f: f.output_tokens),
    Metric("tokens_per_run", "tokens per run", COUNT, LESS, lambda f: f.tokens_per_run),
    Metric("cost", "cost", DOLLARS, NEITHER, lambda f: f.cost_usd, _no_cost),
    Metric("cost_per_1000", "cost per 1,000 runs", DOLLARS, LESS, lambda f: f.cost_per_1000, _no_cost),
    Metric("cost_per_success", "cost per success", DOLLARS, LESS, lambda f: f.cost_per_success, _per_success),
    Metric(
        "cost_projected",
        f"cost of {PROJECTED:,} runs",
        DOLLARS,
        LESS,
        lambda f: f.projected(PROJECTED),
        _no_cost,
    ),
)

EXECUTION_METRICS = (
    *_COUNTS,
    _rate("isolation", "held in the sandbox", lambda f: f.isolation, "none was run"),
    *_LATENCIES,
    _RUN,
    _COLD_START,
    Metric("warm_avg", "latency with warm sandboxes, mean", SECONDS, LESS, lambda f: f.warm_avg_s),
    Metric("cold_avg", "latency with cold ones, mean", SECONDS, LESS, lambda f: f.cold_avg_s, _no_cold),
)


@dataclass(frozen=True, slots=True)
class Best:
    """Who is best at something: several if equal. `close`: too few runs to be sure of it."""

    subjects: tuple[str, ...]
    close: bool


def best(metric: Metric, found: Mapping[str, Figures]) -> Best | None:
    """Who is best; None where that cannot be said, or everybody is equal."""
    if metric.better is Better.NEITHER or len(found) < 2:
        return None
    values = {name: metric.value(each) for name, each in found.items()}
    known = {name: number for name, value in values.items() if (number := plain(value)) is not None}
    if len(known) < len(found):
        return None
    most = (max if metric.better is Better.MORE else min)(known.values())
    winners = tuple(name for name, value in known.items() if value == most)
    if len(winners) == len(found):
        return None
    return Best(winners, close=_close(values, winners))


def plain(value: Value) -> float | int | Decimal | None:
    """A rate as its share, anything else as it is."""
    return value.value if isinstance(value, Rate) else value


def as_json(value: Value) -> Any:
    """The value in a JSON document: dollars as text, so that nothing is rounded; rates with their numbers."""
    if isinstance(value, Rate):
        return {"hits": value.hits, "of": value.of, "value": value.value, "interval": value.interval}
    return f"{value:f}" if isinstance(value, Decimal) else value


def _close(values: Mapping[str, Value], winners: tuple[str, ...]) -> bool:
    rates = {name: value.interval for name, value in values.items() if isinstance(value, Rate)}
    if len(rates) < len(values):
        return False
    winning = [rates[name] for name in winners]
    others = [interval for name, interval in rates.items() if name not in winners]
    return any(
        one and other and one[0] <= other[1] and other[0] <= one[1] for one in winning for other in others
    )
