"""What the measurements of one subject come to."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from retort.bench.measurement import Judgement, Measurement
from retort.bench.stats import Rate, mean, percentile

#: Categories by which mathematics is judged.
MATHEMATICAL = frozenset({"statistical analysis", "numerical"})
VISUAL = "visualization"
ISOLATION = "isolation"


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one subject, or of a part of its measurements. Seconds, dollars; None is unknown."""

    runs: int
    successes: int  # ended and judged right
    wrong: int
    errors: int
    accuracy: Rate  # right in the end, of those judged
    at_once: Rate  # right with the first program
    recovery: Rate  # right in the end, of those whose first program was wrong
    mathematics: Rate
    visual: Rate
    isolation: Rate
    samples: int  # times that the latencies are of
    avg_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    model_s: float | None  # mean
    run_s: float | None  # mean
    cold_starts: int
    cold_start_s: float | None  # mean
    warm_avg_s: float | None  # mean latency of what met warm sandboxes only
    cold_avg_s: float | None  # of what met a cold one
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None

    @property
    def tokens(self) -> int | None:
        """In and out."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    @property
    def tokens_per_run(self) -> float | None:
        """Of all runs, also of those that went wrong: they were paid, too."""
        return None if self.tokens is None or not self.runs else self.tokens / self.runs

    @property
    def cost_per_1000(self) -> Decimal | None:
        """What a thousand such runs would cost."""
        return self.projected(1000)

    def projected(self, runs: int) -> Decimal | None:
        """What so many runs would cost, if they went like these."""
        return None if self.cost_usd is None or not self.runs else self.cost_usd * runs / self.runs

    @property
    def cost_per_success(self) -> Decimal | None:
        """All that was paid, for each run that was right; None where none was."""
        return None if self.cost_usd is None or not self.successes else self.cost_usd / self.successes


def figures(measurements: Iterable[Measurement]) -> Figures:
    """What these come to; those of a burst show cold starts and count for nothing else."""
    everything = list(measurements)
    runs = [each for each in everything if not each.burst]
    judged = [each for each in runs if each.judgement is not Judgement.ERROR]
    right = [each for each in judged if each.judgement is Judgement.RIGHT]
    at_once = [each for each in judged if each.right_at_once is not None]
    failed_first = [each for each in at_once if not each.right_at_once]
    times = [each.latency_s for each in judged]
    colds = [each.cold_start_s for each in everything if each.cold_start_s is not None]
    costs = [each.cost for each in runs]
    return Figures(
        runs=len(runs),
        successes=len(right),
        wrong=len(judged) - len(right),
        errors=len(runs) - len(judged),
        accuracy=_rate(judged),
        at_once=Rate(len(at_once) - len(failed_first), len(at_once)),
        recovery=_rate(failed_first),
        mathematics=_rate(each for each in judged if each.category in MATHEMATICAL),
        visual=_rate(each for each in judged if each.category == VISUAL),
        isolation=_rate(each for each in judged if each.category == ISOLATION),
        samples=len(times),
        avg_s=mean(times),
        p50_s=percentile(times, 50),
        p95_s=percentile(times, 95),
        p99_s=percentile(times, 99),
        model_s=_mean_known([each.model_s for each in judged]),
        run_s=_mean_known([each.run_s for each in judged]),
        cold_starts=len(colds),
        cold_start_s=mean(colds),
        warm_avg_s=mean([each.latency_s for each in judged if each.start not in (None, "cold")]),
        cold_avg_s=mean([each.latency_s for each in judged if each.start == "cold"]),
        input_tokens=_sum_known([each.input_tokens for each in runs]),
        output_tokens=_sum_known([each.output_tokens for each in runs]),
        cost_usd=_cost(costs),
    )


def by_category(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """The measurements of each category, in the order in which they come."""
    found: dict[str, list[Measurement]] = {}
    for each in measurements:
        if not each.burst:
            found.setdefault(each.category, []).append(each)
    return found


def by_task(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """The measurements of each task."""
    found: dict[str, list[Measurement]] = {}
    for each in measurements:
        if not each.burst:
            found.setdefault(each.task, []).append(each)
    return found


def _rate(judged: Iterable[Measurement]) -> Rate:
    judged = list(judged)
    return Rate(sum(each.judgement is Judgement.RIGHT for each in judged), len(judged))


def _sum_known(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _cost(values: Sequence[Decimal | None]) -> Decimal | None:
    known = [value for value in values if value is not None]
    return sum(known, Decimal(0)) if values and len(known) == len(values) else None


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
