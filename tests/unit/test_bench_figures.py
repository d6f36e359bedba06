"""What measurements come to: figures checked against measurements whose figures are known."""

import csv
import io
import statistics
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort.bench.figures import figures
from retort.bench.measurement import EXECUTION, Judgement, Measurement
from retort.bench.metrics import MODEL_METRICS, Best, Metric, best
from retort.bench.page import page
from retort.bench.plan import Plan
from retort.bench.report import Report
from retort.bench.sheets import figures_csv, runs_csv
from retort.bench.stats import Rate, least_samples, percentile
from retort.bench.tasks import Check, Task
from retort.bench.words import UNKNOWN, shown
from retort.savings import Price, Usage

D = Decimal
METRICS: dict[str, Metric] = {metric.name: metric for metric in MODEL_METRICS}
RIGHT, WRONG, ERROR = Judgement


def measured(number: int = 1, judgement: Judgement = RIGHT, **values: Any) -> Measurement:
    usual: dict[str, Any] = {
        "subject": "m",
        "task": "t",
        "category": "algorithmic",
        "iteration": number,
        "job_id": "j",
        "asked": "0",
        "judgement": judgement,
        "why": "",
        "verdict": "ok",
        "latency_s": 1.0,
        "attempts": 1,
        "right_at_once": None if judgement is ERROR else judgement is RIGHT,
        "input_tokens": 40,
        "output_tokens": 12,
        "cost_usd": "0.001",
        "start": "warm",
    }
    return Measurement(**{**usual, **values})


def report(*measurements: Measurement, models: tuple[str, ...] = ("m",), complete: bool = True) -> Report:
    plan = Plan((Task(name="t", task="t", check=Check(stdout="")),), models=models, execution=False)
    return Report(plan, measurements, "2026-11-21T10:00:00+00:00", complete)


@given(st.lists(st.floats(0, 1e6), min_size=100, max_size=300), st.sampled_from([50, 95, 99]))
def test_percentiles_are_those_of_the_values(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found is not None
    assert (
        sum(value <= found or value == pytest.approx(found) for value in values)
        >= len(values) * percent / 100 - 1
    )
    assert min(values) <= found <= max(values)


def test_too_few_values_give_no_percentile_and_say_so() -> None:
    assert [least_samples(percent) for percent in (50, 95, 99)] == [2, 20, 100]
    assert percentile([1.0] * 19, 95) is None
    assert percentile([float(n) for n in range(1, 102)], 99) == pytest.approx(100)
    found = figures([measured(n) for n in range(20)])
    assert (found.p50_s, found.p95_s, found.p99_s) == (1, 1, None)
    assert METRICS["p99"].note(found) == "needs 100 runs, has 20"
    assert METRICS["p95"].note(found) is None


def test_rates_of_nothing_are_unknown() -> None:
    found = figures([measured(judgement=ERROR, cost_usd=None)])
    for name in ("accuracy", "at_once", "recovery", "mathematics", "visual"):
        assert shown(METRICS[name].value(found), METRICS[name].unit) == UNKNOWN
        assert METRICS[name].note(found)
    assert (found.errors, found.successes, found.avg_s, found.cost_usd, found.cost_per_success) == (
        1, 0, None, None, None,
    )  # fmt: skip
    empty = figures([])
    assert (empty.cost_usd, empty.tokens, empty.tokens_per_run, empty.avg_s) == (None, None, None, None)


@given(st.integers(0, 50), st.integers(1, 50))
def test_an_interval_holds_its_rate(hits: int, more: int) -> None:
    rate = Rate(hits, hits + more)
    assert rate.interval is not None
    assert rate.value is not None
    low, high = rate.interval
    assert 0 <= low <= rate.value <= high <= 1
    wider = Rate(hits * 10, rate.of * 10).interval
    assert wider is not None
    assert wider[1] - wider[0] < high - low


def test_what_is_counted() -> None:
    found = figures(
        [
            measured(1, latency_s=1.0, category="numerical"),
            measured(2, latency_s=3.0, right_at_once=False, category="visualization"),
            measured(3, WRONG, latency_s=2.0, category="numerical"),
            measured(4, ERROR, latency_s=99.0),
            measured(5, latency_s=77.0, burst=True, cold_start_s=0.5, start="cold"),
            measured(6, latency_s=4.0, cold_start_s=0.25, start="cold", category="statistical analysis"),
        ]
    )
    assert (found.runs, found.successes, found.wrong, found.errors) == (5, 3, 1, 1)
    assert (found.accuracy, found.at_once, found.recovery) == (Rate(3, 4), Rate(2, 4), Rate(1, 2))
    assert (found.mathematics, found.visual) == (Rate(2, 3), Rate(1, 1))
    assert (found.samples, found.avg_s, found.p50_s) == (4, 2.5, 2.5)
    assert (found.cold_starts, found.cold_start_s, found.cold_avg_s, found.warm_avg_s) == (2, 0.375, 4.0, 2.0)
    assert (found.input_tokens, found.output_tokens, found.tokens_per_run) == (200, 60, 52)
    assert found.cost_usd == D("0.005")
    assert found.cost_per_1000 == D("1")
    assert found.cost_per_success == D("0.005") / 3


@pytest.mark.parametrize(("price", "per_1000", "per_10000"), [("8", "0.416", "4.16"), ("15", "0.78", "7.8")])
def test_costs_of_52_tokens(price: str, per_1000: str, per_10000: str) -> None:
    """Published for 52 tokens: $0.42 and $0.89 for 1,000, $52 and $97 for 10,000. Only the first is right."""
    usd = Usage(1, output_tokens=52).cost(Price.blended(D(price)))
    found = figures([measured(n, input_tokens=0, output_tokens=52, cost_usd=str(usd)) for n in range(3)])
    assert found.tokens_per_run == 52
    assert found.cost_per_1000 == D(per_1000)
    assert METRICS["cost_projected"].value(found) == D(per_10000)


def test_a_cost_that_is_partly_unknown_is_unknown() -> None:
    found = figures([measured(1), measured(2, cost_usd=None)])
    assert found.cost_usd is found.cost_per_1000 is found.cost_per_success is None
    assert METRICS["cost"].note(found) == "the price of some calls is unknown"
    assert figures([measured(1), measured(2, input_tokens=None)]).tokens is None


def winners(name: str, **subjects: list[Measurement]) -> Best | None:
    return best(METRICS[name], {subject: figures(values) for subject, values in subjects.items()})


def test_winners() -> None:
    quick = [measured(n, latency_s=0.5) for n in range(2)]
    slow = [measured(n, latency_s=1.5) for n in range(2)]
    assert winners("avg", a=slow, b=quick) == Best(("b",), close=False)
    assert winners("avg", a=quick, b=quick) is None, "equal"
    assert winners("avg", a=quick, b=quick, c=slow) == Best(("a", "b"), close=False)
    assert winners("avg", a=quick) is None, "alone"
    assert winners("p99", a=quick, b=slow) is None, "unknown"
    assert winners("avg", a=quick, b=[]) is None, "one is unknown"
    assert winners("runs", a=quick, b=slow) is None, "no merit"


def test_a_winner_by_chance_is_called_close() -> None:
    def mixed(right: int, of: int) -> list[Measurement]:
        return [measured(n, RIGHT if n < right else WRONG) for n in range(of)]

    assert winners("accuracy", a=mixed(3, 4), b=mixed(4, 4)) == Best(("b",), close=True)
    assert winners("accuracy", a=mixed(20, 100), b=mixed(90, 100)) == Best(("b",), close=False)


def test_when_the_dearer_model_pays() -> None:
    cheap = [measured(n, RIGHT if n < 9 else WRONG, subject="cheap", cost_usd="0.01") for n in range(10)]
    dear = [measured(n, subject="dear", cost_usd="0.03") for n in range(10)]
    (worth,) = report(*cheap, *dear, models=("cheap", "dear")).worth()
    assert worth == {"cheap": "cheap", "dear": "dear", "error_cost_usd": D("0.2")}
    assert report(*dear, models=("dear", "cheap")).worth() == []


def test_a_report_says_what_must_be_known() -> None:
    one, other = measured(1, subject="a", scripted=True), measured(1, subject="b", asked="1", estimated=True)
    notes = report(
        one, other, measured(2, subject="b", taken_up=True), models=("a", "b"), complete=False
    ).notes()
    said = (
        "not complete",
        "Scripted, no real models: a.",
        "the same words: t.",
        "estimated",
        "interruption: 1.",
    )
    assert [part for part in said if not any(part in note for note in notes)] == []
    assert report(measured()).notes() == []


def test_sheets_have_every_figure_and_run() -> None:
    found = report(measured(1, why="=1+1"), measured(2, WRONG, why="-x"))
    rows = list(csv.DictReader(io.StringIO(figures_csv(found))))
    assert [row["metric"] for row in rows] == [metric.name for metric in MODEL_METRICS]
    accuracy = next(row for row in rows if row["metric"] == "accuracy")
    assert (accuracy["value"], accuracy["hits"], accuracy["of"]) == ("0.5", "1", "2")
    p99 = next(row for row in rows if row["metric"] == "p99")
    assert (p99["value"], p99["unknown_because"]) == ("", "needs 100 runs, has 2")
    runs = list(csv.DictReader(io.StringIO(runs_csv(found))))
    assert [run["why"] for run in runs] == ["'=1+1", "'-x"]


def test_a_page_escapes_what_programs_and_models_wrote() -> None:
    bad = "<script>alert(1)</script>"
    hostile = measured(1, WRONG, subject=bad, why=bad, category="own", versions=(bad,))
    text = page(report(hostile, models=(bad,)))
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 3
    assert page(report(models=("m",))), "a page of nothing"
    assert page(Report(Plan((), execution=True), (measured(subject=EXECUTION),), "", complete=True))


def test_a_measurement_survives_the_journal() -> None:
    one = measured(versions=("v",), cold_start_s=0.1)
    assert Measurement.from_dict(one.as_dict()) == one
    assert Measurement.from_dict({**one.as_dict(), "later": 1}) == one
    assert statistics.mean([one.tokens or 0]) == 52
