"""Which figures of a report are drawn."""

from collections.abc import Callable
from decimal import Decimal

from markupsafe import Markup

from retort.bench import charts
from retort.bench.figures import Figures
from retort.bench.measurement import Judgement
from retort.bench.report import Report, Section
from retort.bench.words import seconds

Pictures = list[tuple[str, Markup]]


def pictures(report: Report) -> Pictures:
    """Titles and pictures: of the models where there are any, else of the execution side."""
    section = report.models()
    names = report.plan.models if section is not None else report.plan.subjects()
    times = {
        name: [
            each.latency_s
            for each in report.of(name)
            if each.judgement is not Judgement.ERROR and not each.burst
        ]
        for name in names
    }
    drawn = [
        ("Latency: share of runs that had ended after so long", charts.shares(times, _time)),
        ("Latency percentiles", charts.latencies(times, _time)),
    ]
    return drawn if section is None else drawn + _quality(report, section)


def _quality(report: Report, section: Section) -> Pictures:
    parts = {
        category: [found.get(name) for name in section.found]
        for category, found in report.categories().items()
        if any(name in found for name in section.found)
    }
    by_model = dict(zip(section.found, zip(*parts.values(), strict=True), strict=True)) if parts else {}
    return [
        (
            "Right in the end, by category",
            charts.bars(
                list(parts),
                {name: [_accuracy(each) for each in row] for name, row in by_model.items()},
                _per_cent,
            ),
        ),
        (
            "Right at once, right in the end, and recovered from a wrong first program",
            charts.bars(["at once", "in the end", "recovered"], _each(section, _rates), _per_cent),
        ),
        (
            "Cost of 1,000 runs, and of 1,000 successes",
            charts.bars(["runs", "successes"], _each(section, _costs), _dollars),
        ),
    ]


def _each(section: Section, values: Callable[[Figures], list[float | None]]) -> dict[str, list[float | None]]:
    return {name: values(found) for name, found in section.found.items()}


def _rates(found: Figures) -> list[float | None]:
    return [_share(each.value) for each in (found.at_once, found.accuracy, found.recovery)]


def _costs(found: Figures) -> list[float | None]:
    return [_amount(found.cost_per_1000), _amount(found.cost_per_success, 1000)]


def _accuracy(found: Figures | None) -> float | None:
    return None if found is None else _share(found.accuracy.value)


def _share(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)


def _amount(value: Decimal | None, times: int = 1) -> float | None:
    return None if value is None else float(value * times)


def _per_cent(value: float) -> str:
    return f"{value:g} %"


def _dollars(value: float) -> str:
    return f"${value:g}"


def _time(value: float) -> str:
    return "0" if not value else seconds(value)
