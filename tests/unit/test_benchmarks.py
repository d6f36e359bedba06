"""The parts of the benchmarks that only calculate."""

from pathlib import Path

import pytest

from benchmarks import document, machine, report, table, targets, workers
from benchmarks.document import CpuPerJob, Document, Measurement
from benchmarks.load import LoadError, body_of, request
from benchmarks.stats import percentile, summary
from benchmarks.targets import TARGETS, judge

MACHINE = {
    "cpu": "A processor",
    "cores": 2,
    "memory_mb": 4096,
    "kernel": "6.1",
    "python": "3.11",
    "engine": {"docker": "20.10", "containerd": "1.6", "runc": "1.1"},
    "storage": "overlay2",
    "cgroup": "1",
    "revision": "0123456789ab",
    "load_average": [0.1, 0.2, 0.3],
    "busy_share": 0.01,
    "seconds": 400.0,
    "stolen_s": 0.5,
}


def a_run() -> Document:
    """Floor: 100 ms, 12 per second. Ours: 2 ms, 300 per second, 11.7 fresh ones per second."""
    run = Document("2026-01-02T03:04:05+00:00", True, dict(MACHINE))
    run.add(
        [
            Measurement.of_times(targets.FLOOR, "a container", [90.0, 100.0, 110.0]),
            Measurement(targets.FLOOR_PARALLEL, "four in parallel", per_s=12.0),
            Measurement.of_times("driver.recycled", "driver", [2.0, 2.0, 4.0]),
            Measurement.of_times("e2e.latency.recycled", "HTTP", [5.0] * 99 + [90.0]),
            Measurement("e2e.recycled.1", "one client", per_s=90.0),
            Measurement("e2e.recycled.8", "eight clients", per_s=300.0),
            Measurement("e2e.fresh.4", "fresh", per_s=11.7),
            CpuPerJob("one client", 700, {"api": 2.0, "worker": 3.0}),
            CpuPerJob("eight clients", 2400, {"api": 1.5, "rest": 0.25}),
        ]
    )
    return run


class TestPercentiles:
    def test_an_empty_list_has_none(self) -> None:
        assert percentile([], 50) is None
        empty = summary([])
        assert (empty.n, empty.p50, empty.p99, empty.least, empty.most) == (0, None, None, None, None)

    def test_one_value_is_all_of_them(self) -> None:
        assert {percentile([7.0], share) for share in (0, 50, 99, 100)} == {7.0}

    def test_they_are_interpolated(self) -> None:
        values = [4.0, 1.0, 3.0, 2.0]
        assert percentile(values, 0) == 1.0
        assert percentile(values, 50) == 2.5
        assert percentile(values, 100) == 4.0
        assert values == [4.0, 1.0, 3.0, 2.0]

    @pytest.mark.parametrize("share", [-1, 100.5])
    def test_there_is_none_beyond_the_ends(self, share: float) -> None:
        with pytest.raises(ValueError, match="percentile"):
            percentile([1.0], share)


class TestTargets:
    def test_what_was_not_measured_is_neither_met_nor_missed(self) -> None:
        judged = judge(Document("now", False, dict(MACHINE)))
        assert len(judged) == len(TARGETS)
        assert all(one.measured is None and one.met is None for one in judged)

    def test_bounds(self) -> None:
        judged = {one.title: one for one in judge(a_run())}
        assert judged["driver round trip in a recycled cell, p50"].met is True
        assert judged["end to end over HTTP, p50"].met is True
        assert judged["jobs per second, recycled cells"].measured == 300.0
        share = judged["jobs per second, fresh container each, share of the engine's rate"]
        assert share.measured == pytest.approx(97.5)
        assert share.met is True

    def test_the_bound_itself_is_met(self) -> None:
        at_most = next(target for target in TARGETS if target.at_most)
        at_least = next(target for target in TARGETS if not target.at_most)
        assert at_most.met(at_most.bound) is True
        assert at_most.met(at_most.bound + 0.1) is False
        assert at_least.met(at_least.bound) is True
        assert at_least.met(at_least.bound - 0.1) is False


class TestTable:
    def test_ratios_refer_to_a_container_per_run(self) -> None:
        run = a_run()
        ratios = {one.key: table.ratio(run, one) for one in run.measurements}
        assert ratios[targets.FLOOR] == 1
        assert ratios["driver.recycled"] == 50
        assert ratios["e2e.recycled.8"] == 25

    def test_without_a_floor_there_is_no_ratio(self) -> None:
        run = Document("now", False, dict(MACHINE))
        run.add([Measurement.of_times("driver.recycled", "driver", [2.0])])
        assert table.rows(run) == [("driver", "1", "2.00", "-", "-", "-", "-")]

    def test_what_is_no_run_of_a_program_has_no_ratio(self) -> None:
        run = a_run()
        run.add([Measurement.of_times("e2e.up", "start", [7000.0])])
        assert table.rows(run)[-1][-1] == "-"

    def test_columns_are_aligned(self) -> None:
        lines = table.text(("what", "n"), [("long name", "1"), ("short", "1000")]).splitlines()
        assert lines == ["what          n", "---------  ----", "long name     1", "short      1000"]

    def test_an_empty_table_is_its_header(self) -> None:
        assert table.text(("what", "n"), []).splitlines() == ["what  n", "----  -"]

    def test_markdown(self) -> None:
        page = table.markdown(("what", "n"), [("a|b", "1")])
        assert page.splitlines() == ["| what | n |", "| --- | ---: |", "| a\\|b | 1 |"]

    def test_cpu_is_summed_over_whoever_spent_it(self) -> None:
        header, rows = table.cpu_rows(a_run().cpu_per_job)
        assert header == ("CPU per job, ms", "api", "worker", "rest", "all")
        assert rows[0] == ("one client", "2.00", "3.00", "-", "5.00")
        assert rows[1] == ("eight clients", "1.50", "-", "0.25", "1.75")

    @pytest.mark.parametrize(
        ("value", "shown"), [(None, "-"), (0.0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234")]
    )
    def test_numbers_have_three_digits(self, value: float | None, shown: str) -> None:
        assert table.number(value) == shown


class TestWorkers:
    ROUNDS = (
        {"queued": 1000, "jobs": 10, "per_s": 50.0, "cpu_ms": {"api": 2.0, "worker": 3.0, "benchmark": 9.0}},
        {"queued": 1000, "jobs": 10, "per_s": 70.0, "cpu_ms": {"api": 4.0, "worker": 3.0, "benchmark": 9.0}},
        {"queued": 10, "jobs": 10, "per_s": 80.0, "cpu_ms": {"api": 1.0, "worker": 2.0, "benchmark": 9.0}},
    )

    def test_the_rounds_of_a_length_are_one_line_without_the_benchmark_itself(self) -> None:
        assert workers.medians(self.ROUNDS, "queued") == {
            10: {"per_s": 80.0, "api": 1.0, "worker": 2.0, "all": 3.0},
            1000: {"per_s": 60.0, "api": 3.0, "worker": 3.0, "all": 6.0},
        }

    def test_who_took_no_part_has_a_dash_and_the_sum_comes_last(self) -> None:
        found = {1: {"per_s": 9.0, "all": 2.0}, 2000: {"per_s": 8.0, "second": 1.0, "all": 3.0}}
        head, _, first, second = workers.lines(found, "processes").splitlines()
        assert head.split() == ["processes", "jobs/s", "second", "all"]
        assert first.split() == ["1", "9.00", "-", "2.00"]
        assert second.split() == ["2,000", "8.00", "1.00", "3.00"]


class TestDocument:
    def test_what_is_kept_comes_back(self, tmp_path: Path) -> None:
        run = a_run()
        document.save(run, [one.as_dict() for one in judge(run)], tmp_path / "run.json")
        back = document.load(tmp_path / "run.json")
        assert back.machine == run.machine
        assert back.complete
        assert table.rows(back) == table.rows(run)
        assert [one.met for one in judge(back)] == [one.met for one in judge(run)]
        assert back.cpu_per_job == run.cpu_per_job

    def test_another_schema_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text('{"schema": 0}')
        with pytest.raises(ValueError, match="schema"):
            document.load(tmp_path / "run.json")

    def test_a_busy_machine_is_told_of(self) -> None:
        assert machine.warning(MACHINE) is None
        assert "busy" in (machine.warning({**MACHINE, "busy_share": 0.5}) or "")
        assert machine.stolen(MACHINE) is None
        assert "5.0%" in (machine.stolen({**MACHINE, "stolen_s": 40.0}) or "")
        assert "3.00" in (machine.warning({**MACHINE, "load_average": [3.0, 0.0, 0.0]}) or "")


class TestPage:
    def test_the_page_has_a_place_for_figures(self) -> None:
        page = report.PAGE.read_text(encoding="utf-8")
        once = report.filled(page, report.figures(a_run()))
        assert "A processor" in once
        assert report.filled(once, report.figures(a_run())) == once

    def test_a_page_without_a_place_is_refused(self) -> None:
        with pytest.raises(ValueError, match="lacks"):
            report.filled("# Performance\n", "figures")


class TestAnswers:
    def test_a_request_says_how_long_its_body_is(self) -> None:
        head, _, body = request(("127.0.0.1", 8000), "rt_key", {"code": "print(1)"}).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")

    def test_an_answer_is_taken_when_it_is_complete(self) -> None:
        whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 4\r\n\r\nbody"
        assert [body_of(whole[:end]) for end in range(len(whole))] == [None] * len(whole)
        assert body_of(whole) == b"body"

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ],
    )
    def test_anything_but_a_result_is_an_error(self, answer: bytes) -> None:
        with pytest.raises(LoadError):
            body_of(answer)
