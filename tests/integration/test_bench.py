"""`retort bench` against the real service, with two scripted models that differ in speed and quality."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import docker
import pytest
from playwright.sync_api import Page, ViewportSize
from typer.testing import CliRunner

from domain.catalogue import load_catalogue
from domain.prices import Tokens
from retort.bench.choosing import choose
from retort.bench.measurement import Judgement, Measurement
from retort.bench.metrics import MODEL_METRICS
from retort.bench.service import BenchClient
from retort.cli import exits
from retort.cli.main import app
from retort.client import Config
from retort.scripted.dialects import count_tokens
from tests.bench.wrong import WRONG
from tests.browser import Seen, browser
from tests.conftest import Services, empty
from tests.harness import Jobs, Worker, eventually, instance_name, ready
from tests.integration.api.harness import Server, Store
from tests.integration.bench_house import FAST, SLOW, House, gateways
from tests.models import scripted_process
from tests.tasks import QUICK
from worker.sandbox import images

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tests" / "bench"
TASKS = str(BENCH / "tasks.toml")

DELAY_S = 0.25  # of each answer of the slow one
TIMES = 2
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
VIEW: ViewportSize = {"width": 960, "height": 760}
ALL_SETS = ("named", "categories", "probes", "isolation")


@pytest.fixture(scope="module")
def house(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Everything, started once."""
    images.build("javascript", client=engine)
    empty(services)
    folder = tmp_path_factory.mktemp("bench")
    storage = (folder / "storage").as_uri()
    with ExitStack() as closing:
        urls = [
            closing.enter_context(
                scripted_process(folder / f"{name}.log", "--scripts", str(BENCH / f"{name}.toml"))
            )
            for name in ("quick", "careful")
        ]
        table = Jobs(services.database_url)
        closing.callback(table.close)
        store = Store(services.database_url, services.redis_url)
        closing.callback(store.close)
        worker = Worker(
            folder / "worker.log",
            services.database_url,
            services.redis_url,
            instance=instance_name(),
            environment={"RETORT_GATEWAYS": gateways(folder, *urls), **QUICK},
            storage_url=storage,
        )
        closing.callback(worker.end, engine)
        closing.callback(lambda: print(worker.log.read_text()))
        ready(table, worker)
        server = Server(folder / "api.log", services.database_url, services.redis_url, storage_url=storage)
        closing.callback(server.stop)
        yield House(Config(server.url, store.key("bench")), table)
        assert worker.stop() == 0


@pytest.fixture(scope="module")
def folder(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the report of both models lies, after everything was measured."""
    out = tmp_path_factory.mktemp("report")
    asked = ["--model", FAST, "--model", "sonnet-4", "-n", str(TIMES), "-c", "3", "--out", str(out)]
    done = house.bench(TASKS, *asked)
    assert done.exit_code == 0, done.output
    assert "code accuracy" in done.stdout
    assert f"retort: {2 * TIMES * 4 + 2 * TIMES} of {2 * TIMES * 4 + 2 * TIMES} measured" in done.stderr
    return out


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """It as JSON."""
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def measurements(folder: Path) -> list[Measurement]:
    lines = (folder / "journal.ndjson").read_text().splitlines()[1:]
    return [Measurement.from_dict(json.loads(line)) for line in lines]


#: metric -> what the scripts make of it, for the fast and for the slow model, and who is best.
KNOWN: dict[str, tuple[Any, Any, list[str] | None]] = {
    "runs": (8, 8, None),
    "successes": (4, 8, None),
    "wrong": (2, 0, None),
    "errors": (2, 0, [SLOW]),
    "accuracy": ((4, 6), (8, 8), [SLOW]),
    "at_once": ((2, 6), (6, 8), [SLOW]),
    "recovery": ((2, 4), (2, 2), [SLOW]),
    "mathematics": ((2, 4), (4, 4), [SLOW]),
    "visual": ((0, 0), (2, 2), None),
    "p95": (None, None, None),
    "p99": (None, None, None),
}


@pytest.mark.parametrize("metric", KNOWN)
def test_every_share_is_what_the_scripts_say(report: dict[str, Any], metric: str) -> None:
    row = report["models"][metric]
    fast, slow, best = KNOWN[metric]
    for name, known in ((FAST, fast), (SLOW, slow)):
        found = row["values"][name]
        if isinstance(known, tuple):
            hits, of = known
            assert (found["hits"], found["of"]) == known
            assert found["value"] == (hits / of if of else None)
        else:
            assert found == known
    assert row["best"] == best


def test_tokens_and_costs_are_those_of_what_was_said(
    house: House, report: dict[str, Any], folder: Path
) -> None:
    catalogue = load_catalogue()
    per_run: dict[str, Decimal] = {}
    for name, successes in ((FAST, 4), (SLOW, 8)):
        tokens_in = tokens_out = 0
        for call in house.calls(name):
            if call.failure is None:
                said = [call.prompt["system"], *(each["content"] for each in call.prompt["messages"])]
                tokens_in += sum(map(count_tokens, said))
                tokens_out += count_tokens(call.answer)
        card = catalogue.find(name)
        assert card is not None
        assert card.price is not None
        cost = card.price.cost(Tokens(tokens_in, tokens_out)).usd
        per_run[name] = cost / 8
        rows = {metric: row["values"][name] for metric, row in report["models"].items()}
        assert (rows["input_tokens"], rows["output_tokens"]) == (tokens_in, tokens_out)
        assert rows["tokens_per_run"] == (tokens_in + tokens_out) / 8
        assert Decimal(rows["cost"]) == cost
        assert Decimal(rows["cost_per_1000"]) == cost * 1000 / 8
        assert Decimal(rows["cost_projected"]) == cost * 10_000 / 8
        assert Decimal(rows["cost_per_success"]) == cost / successes
    for metric in ("cost_per_1000", "cost_projected"):
        assert report["models"][metric]["best"] == [min(per_run, key=per_run.__getitem__)]
    assert len(house.calls(FAST)) == TIMES * (1 + 2 + 2 + 1)
    assert len(house.calls(SLOW)) == TIMES * (1 + 1 + 2 + 1)
    (worth,) = report["worth"]
    gain = Decimal(str(8 / 8)) - Decimal(str(4 / 6))
    assert (worth["cheap"], worth["dear"]) == (FAST, SLOW)
    assert Decimal(worth["error_cost_usd"]) == (per_run[SLOW] - per_run[FAST]) / gain


def test_latencies_are_those_of_the_runs(report: dict[str, Any], folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((folder / "runs.csv").read_text())))
    averages = {}
    for name in (FAST, SLOW):
        runs = [row for row in rows if row["subject"] == name and row["judgement"] != "error"]
        times = sorted(float(row["latency_s"]) for row in runs)
        middle = len(times) // 2
        averages[name] = sum(times) / len(times)
        found = {metric: row["values"][name] for metric, row in report["models"].items()}
        assert found["avg"] == pytest.approx(averages[name])
        assert found["p50"] == pytest.approx((times[middle - 1] + times[middle]) / 2)
        assert found["model"] == pytest.approx(sum(float(row["model_s"]) for row in runs) / len(runs))
        assert found["run"] == pytest.approx(sum(float(row["run_s"]) for row in runs) / len(runs))
        # The client's clock saw at least what the service's did within it.
        assert all(float(row["latency_s"]) >= float(row["model_s"]) for row in runs)
        assert report["models"]["p99"]["unknown_because"][name] == f"needs 100 runs, has {len(runs)}"
    slow = [row for row in rows if row["subject"] == SLOW]
    asked = {"plain": 1, "repairs": 1, "hard": 2, "refused": 1}
    assert all(float(row["model_s"]) >= DELAY_S * asked[row["task"]] for row in slow)
    assert report["models"]["avg"]["best"] == [min(averages, key=averages.__getitem__)]


def test_both_models_were_asked_the_same(house: House, report: dict[str, Any]) -> None:
    def first_questions(name: str) -> set[str]:
        asked = [call for call in house.calls(name) if len(call.prompt["messages"]) == 1]
        return {json.dumps(call.prompt, sort_keys=True) for call in asked}

    assert len(first_questions(FAST)) == 4
    assert first_questions(FAST) == first_questions(SLOW)
    assert report["notes"] == [f"Scripted, no real models: {FAST}, {SLOW}."]
    assert report["versions"][FAST] == [f"scripted/{FAST}"]


def test_parts_and_reasons(report: dict[str, Any]) -> None:
    hard = report["tasks"]["hard"]
    assert (hard[FAST]["accuracy"]["hits"], hard[SLOW]["accuracy"]["hits"]) == (0, TIMES)
    assert hard[FAST]["not_right"][0].startswith("same_code")
    assert report["tasks"]["refused"][FAST]["not_right"][0].startswith("model_failed")
    assert report["categories"]["visualization"][FAST]["accuracy"]["value"] is None
    assert report["execution"]["successes"]["values"] == {"execution": 2 * TIMES}


def test_the_page_opens_offline_and_shows_every_figure(report: dict[str, Any], folder: Path) -> None:
    pictures = Path(os.environ.get("RETORT_PICTURES") or folder)
    with browser() as opened:
        for scheme in SCHEMES:
            with opened.new_context(offline=True, color_scheme=scheme, viewport=VIEW) as context:
                page = context.new_page()
                requested: list[str] = []
                page.on("request", lambda request: requested.append(request.url))  # noqa: B023 (ends with it)
                seen = Seen(page, "file://")
                page.goto((folder / "report.html").as_uri())
                page.screenshot(path=(pictures if scheme == "light" else folder) / f"bench-{scheme}.png")
                assert (seen.wrong, [url for url in requested if not url.startswith("data:")]) == (
                    [],
                    [page.url],
                )
                if scheme == "light":
                    _shows(page, report)
                assert _is_dark(page) == (scheme == "dark")


def _shows(page: Page, report: dict[str, Any]) -> None:
    table = page.locator("table").first
    assert table.locator("tbody tr").count() == len(MODEL_METRICS)
    accuracy = table.locator("tr[data-metric=accuracy] td").all_inner_texts()
    assert accuracy == ["66.7 % (4 of 6)", "100.0 % (8 of 8)", f"{SLOW} (close)"]
    p99 = table.locator("tr[data-metric=p99] td").all_inner_texts()
    assert p99 == ["needs 100 runs, has 6", "needs 100 runs, has 8", ""]
    assert table.locator("tr[data-metric=avg] td.best").count() == 1
    assert page.locator("svg.chart").count() == 5
    bars = page.locator("svg.chart .series rect")
    assert bars.count() >= 10
    assert bars.evaluate_all("all => all.every(one => one.getBoundingClientRect().width > 0)")
    fill = "getComputedStyle(document.querySelector('svg .color-1 rect')).fill"
    assert page.evaluate(fill) not in ("none", "rgb(0, 0, 0)")


def _is_dark(page: Page) -> bool:
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(int(part) for part in ground.removeprefix("rgb(").rstrip(")").split(",")) < 384


def test_what_is_complete_is_not_measured_again(house: House, folder: Path) -> None:
    before = house.submitted()
    asked = ["--model", FAST, "--model", SLOW, "-n", str(TIMES), "-c", "3", "--out", str(folder)]
    assert house.bench(TASKS, *asked).exit_code == 0
    assert house.submitted() == before
    other = house.bench(TASKS, "--out", str(folder))
    assert (other.exit_code, "another benchmark" in other.stderr) == (exits.USAGE, True)


def test_an_interrupted_benchmark_goes_on(house: House, tmp_path: Path) -> None:
    before = house.submitted()
    arguments = ["--model", SLOW, "--models-only", "-n", "5", "-c", "2", "--out", str(tmp_path), "--json"]
    journal = tmp_path / "journal.ndjson"
    first = subprocess.Popen(
        [sys.executable, "-P", "-m", "retort.cli.main", "bench", TASKS, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **house.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 2, "two measurements are kept")
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert (first.returncode, "goes on" in said) == (exits.INTERRUPTED, True), said
    kept = measurements(tmp_path)
    assert 2 <= len(kept) < 20
    with journal.open("a") as file:
        file.write('{"subject": "cl')  # as if the machine had gone down
    again = house.bench(TASKS, *arguments)
    assert again.exit_code == 0, again.output
    whole = measurements(tmp_path)
    assert whole[: len(kept)] == kept
    assert len({each.key for each in whole}) == len(whole) == 20
    assert house.submitted() - before == 20, "what was under way was taken up, not paid again"
    assert json.loads(again.stdout)["models"]["accuracy"]["values"][SLOW]["of"] == 20


def test_it_ends_where_the_money_does(house: House, tmp_path: Path) -> None:
    spend = ["--model", FAST, "--models-only", "-c", "1", "--spend", "0.0000001", "--out", str(tmp_path)]
    done = house.bench(TASKS, *spend, "--only", "plain")
    assert (done.exit_code, len(measurements(tmp_path))) == (exits.UNFINISHED, 1)
    assert "is not complete" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "gpt-99"], exits.USAGE, f"gpt-99 is not served (allowed: {FAST}, {SLOW})"),
        (["--model", "opus-4"], exits.USAGE, "is not served"),
        (["--only", "none"], exits.USAGE, "there is no task 'none'"),
        (["--model", FAST, "--models-only", "--set", "isolation"], exits.USAGE, "nothing to measure"),
        (["--models-only"], 2, "needs --model"),
        (["--model", FAST, "--spend", "-1"], 2, "no amount of dollars"),
        (["--model", FAST, "--preset", "magic", "--models-only"], exits.USAGE, "preset: "),
        (["no.toml"], exits.USAGE, "no.toml: No such file"),
    ],
)
def test_what_is_refused(house: House, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = house.bench(*arguments, "--out", str(tmp_path))
    assert (done.exit_code, said in " ".join(done.stderr.split())) == (code, True), done.stderr


def test_a_key_that_is_wrong_is_told(house: House, tmp_path: Path) -> None:
    environment = {**house.environment, "RETORT_API_KEY": "rt_wrong"}
    done = CliRunner().invoke(app, ["bench", "--out", str(tmp_path)], env=environment)
    assert done.exit_code == exits.NO_PERMISSION


def test_the_execution_side_runs_every_workload(house: House, tmp_path: Path) -> None:
    sets = [part for name in ALL_SETS for part in ("--set", name)]
    done = house.bench(*sets, "-n", "1", "--burst", "8", "--reuse", "--out", str(tmp_path), "--json")
    assert [(each.task, each.why) for each in measurements(tmp_path) if each.judgement != Judgement.RIGHT] == []
    assert done.exit_code == 0, done.output
    rows = {metric: row["values"]["execution"] for metric, row in json.loads(done.stdout)["execution"].items()}
    count = len(choose(ALL_SETS))
    assert (rows["runs"], rows["successes"], rows["wrong"], rows["errors"]) == (count, count, 0, 0)
    assert rows["isolation"]["of"] == rows["isolation"]["hits"] == len(choose(["isolation"]))
    colds = [each.cold_start_s for each in measurements(tmp_path) if each.cold_start_s is not None]
    assert colds, "more programs at once than warm sandboxes"
    assert rows["cold_start"] == pytest.approx(sum(colds) / len(colds))


#: Runs programs, each with its tests, in one process, so that packages are imported once.
TRY_ALL = """
for name, program, tests in PROGRAMS:
    try:
        exec(compile(program + "\\n" + tests, name, "exec"), {"__name__": "__main__"})
    except Exception as error:
        print(name, "is refused:", type(error).__name__)
    else:
        print(name, "is taken for right")
"""


def test_every_check_refuses_what_is_nearly_right(house: House) -> None:
    tested = {task.name: task for task in choose(ALL_SETS) if task.check is not None and task.check.tests}
    assert set(WRONG) == set(tested) - {"pivot-100000"}, "whose check is that of pivot-10000"
    programs, expected = [], []
    for name, changes in WRONG.items():
        task = tested[name]
        assert task.check is not None
        programs.append((name, task.program, task.check.tests))
        expected.append(f"{name} is taken for right")
        for old, new in changes:
            assert task.program is not None
            assert old in task.program
            programs.append((name, task.program.replace(old, new), task.check.tests))
            expected.append(f"{name} is refused")

    async def run() -> dict[str, Any]:
        async with BenchClient(house.service, 1) as client:
            job, _ = await client.measured({"code": f"PROGRAMS = {programs!r}\n{TRY_ALL}"}, "nearly-right")
            return job

    job = asyncio.run(run())
    said = [line for line in job["stdout"].splitlines() if " is " in line]
    assert [line.partition(":")[0] for line in said] == expected, job["stderr"]
    assert "quicksort is refused: NameError" in said, "what was published lacks an import"
