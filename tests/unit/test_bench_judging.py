"""From a job to a measurement; journals that are gone on with. A transport stands in for the API."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort.bench.choosing import SETS, choose
from retort.bench.journal import Journal, JournalError
from retort.bench.judging import (
    first_difference,
    judge_program,
    judge_task,
    measured_program,
    measured_task,
    right_at_once,
)
from retort.bench.measurement import EXECUTION, Judgement
from retort.bench.plan import Plan
from retort.bench.service import BenchClient
from retort.bench.tasks import Check, Task
from retort.client import Config, Refused, UnexpectedAnswer
from worker.checks import first_difference as of_the_service

RIGHT, WRONG, ERROR = Judgement
USAGE = {
    "wall_s": 0.5,
    "queue_s": 0.1,
    "peak_memory_bytes": 100,
    "sandbox_start": "warm",
    "sandbox_start_s": 0.0,
}
NOTHING_RAN = dict.fromkeys(USAGE)


def job(**more: Any) -> dict[str, Any]:
    """A job as the API tells it."""
    usual = {
        "id": "j", "state": "finished", "verdict": "ok", "reason": None, "outcome": "passed", "stdout": "1\n",
        "stdout_encoding": "utf-8", "stdout_truncated": None, "stderr": "", "usage": USAGE,
        "attempts": [tried()], "cost_usd": "0.5", "cost_complete": True, "scripted": False,
    }  # fmt: skip
    return {**usual, **more}


def tried(number: int = 1, **more: Any) -> dict[str, Any]:
    """An attempt in short form."""
    usual = {"number": number, "round": number, "verdict": "ok", "failure": None, "check_passed": True}
    return {**usual, **more}


def call(number: int, **more: Any) -> dict[str, Any]:
    """A call of a model."""
    usual = {
        "id": str(number), "input_tokens": 10, "output_tokens": 5, "cache_read_tokens": None, "cost_usd": "0.1",
        "cache_write_tokens": 1, "estimated": False, "latency_s": 2.0, "model_version": "v1",
        "cache_hit": False,
    }  # fmt: skip
    return {**usual, **more}


@pytest.mark.parametrize(
    ("values", "judgement"),
    [
        ({}, RIGHT),
        ({"outcome": "failed", "verdict": "check_failed", "reason": "attempts_used: 4"}, WRONG),
        ({"outcome": "failed", "verdict": "error", "reason": "same_error"}, WRONG),
        ({"outcome": "failed", "verdict": "no_code", "reason": "no_code: refused"}, WRONG),
        ({"outcome": "failed", "verdict": "no_code", "reason": "model_failed: unauthorized"}, ERROR),
        ({"outcome": "failed", "verdict": "error", "reason": "budget_exceeded: $1"}, ERROR),
        ({"outcome": "failed", "verdict": "check_failed", "reason": "check_unusable"}, ERROR),
        ({"outcome": "failed", "verdict": "sandbox_crash", "reason": None}, ERROR),
        ({"state": "broken", "outcome": None, "verdict": None, "reason": "we failed"}, ERROR),
        ({"state": "cancelled", "outcome": None, "verdict": None}, ERROR),
    ],
)
def test_how_a_task_is_judged(values: dict[str, Any], judgement: Judgement) -> None:
    assert judge_task(job(**values))[0] is judgement


PRINTS = Task(name="p", program="print(1)", check=Check(stdout="1"))
ENDS = Task(name="e", program="while True: pass", verdict="timeout")


@pytest.mark.parametrize(
    ("task", "values", "judgement"),
    [
        (PRINTS, {}, RIGHT),
        (PRINTS, {"stdout": "1  \r\n\n\n"}, RIGHT),
        (PRINTS, {"stdout": "2\n"}, WRONG),
        (PRINTS, {"stdout": ""}, WRONG),
        (PRINTS, {"stdout": "1\n1\n"}, WRONG),
        (PRINTS, {"stdout_encoding": "base64", "stdout": "MQ=="}, WRONG),
        (PRINTS, {"stdout_truncated": {"total": 9}}, WRONG),
        (PRINTS, {"verdict": "error", "stderr": "NameError: random\n"}, WRONG),
        (PRINTS, {"verdict": "sandbox_crash"}, ERROR),
        (PRINTS, {"state": "broken", "verdict": None}, ERROR),
        (ENDS, {"verdict": "timeout"}, RIGHT),
        (ENDS, {"verdict": "ok"}, WRONG),
    ],
)
def test_how_a_program_is_judged(task: Task, values: dict[str, Any], judgement: Judgement) -> None:
    found, why = judge_program(task, job(**values))
    assert found is judgement
    assert why


OUTPUTS = [task for task in choose(list(SETS)) if task.check is not None and task.check.stdout is not None]


@pytest.mark.parametrize("task", OUTPUTS, ids=lambda task: task.name)
def test_the_expected_output_is_right_and_any_other_is_wrong(task: Task) -> None:
    assert task.check is not None
    right = task.check.stdout or ""
    assert judge_program(task, job(stdout=right))[0] is RIGHT
    last = right.rstrip()[-1]
    for other in ("", right.rstrip()[:-1], right + "more", right.replace(last, "7" if last != "7" else "8")):
        assert judge_program(task, job(stdout=other))[0] is WRONG


LINES = st.lists(st.sampled_from(["", " ", "a", "a ", "b", "\r"]), max_size=5).map("\n".join)


@given(LINES, LINES)
def test_outputs_are_compared_as_the_service_does(expected: str, printed: str) -> None:
    assert (first_difference(expected, printed) is None) == (of_the_service(expected, printed) is None)


@pytest.mark.parametrize(
    ("attempts", "at_once"),
    [
        ([tried()], True),
        ([tried(check_passed=False, verdict="check_failed"), tried(2)], False),
        ([tried(check_passed=None, verdict="error"), tried(2)], False),
        ([tried(verdict=None, failure="no_code: prose", check_passed=None), tried(2)], False),
        ([tried(verdict=None, failure="engine_error", check_passed=None), tried(2, round=1)], True),
        ([tried(verdict=None, failure="model_failed: no key", check_passed=None)], None),
        ([], None),
    ],
)
def test_whether_the_first_program_was_right(attempts: list[dict[str, Any]], at_once: bool | None) -> None:
    assert right_at_once(job(attempts=attempts)) is at_once


KNOWN: dict[str, Any] = {"subject": "m", "iteration": 1, "asked": "0", "latency_s": 3.0}
TASK = Task(name="t", category="numerical", task="Print 1", check=Check(stdout="1"), depth=7)


def test_a_task_s_calls_are_counted_once() -> None:
    cold = {**USAGE, "sandbox_start": "cold", "sandbox_start_s": 0.4, "peak_memory_bytes": 300, "wall_s": 1.0}
    attempts = [
        {"calls": [call(1)], "usage": NOTHING_RAN},  # the sandbox was lost
        {"calls": [call(1)], "usage": cold},
        {"calls": [call(2, cache_read_tokens=4, model_version="v0"), call(3, cache_hit=True)], "usage": USAGE},
    ]
    found = measured_task(TASK, job(), attempts, **KNOWN)
    assert (found.input_tokens, found.output_tokens, found.tokens) == (11 + 15, 10, 36)
    assert (found.cost_usd, found.model_s, found.run_s, found.attempts) == ("0.5", 6.0, 1.5, 3)
    assert (found.start, found.cold_start_s, found.peak_memory_bytes) == ("cold", 0.4, 300)
    assert (found.versions, found.depth, found.category) == (("v0", "v1"), 7, "numerical")


def test_what_is_not_told_is_unknown() -> None:
    no_tokens = dict.fromkeys(("input_tokens", "output_tokens", "cache_write_tokens"))
    refused = call(2, **no_tokens, cost_usd="0", latency_s=None, model_version=None)
    lost = {**refused, "id": "3", "cost_usd": None}
    one = measured_task(TASK, job(), [{"calls": [call(1), refused], "usage": USAGE}], **KNOWN)
    assert (one.tokens, one.cost_usd) == (16, "0.5")
    other = measured_task(TASK, job(cost_complete=False), [{"calls": [lost], "usage": NOTHING_RAN}], **KNOWN)
    assert (other.tokens, other.cost_usd, other.model_s, other.run_s, other.start) == (None,) * 5
    broken = measured_task(TASK, job(state="broken", verdict=None), [], **KNOWN)
    assert (broken.judgement, broken.right_at_once, broken.tokens) == (ERROR, None, 0)


def plan(iterations: int = 1) -> Plan:
    return Plan((PRINTS,), iterations=iterations)


def test_a_journal_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal"
    one = measured_program(PRINTS, job(), **KNOWN)
    with Journal.open(path, plan()) as journal:
        run = journal.run
        assert journal.done == {}
        journal.add(one)
    with path.open("a") as file:
        file.write('{"subject": "m", "ta')  # the machine went down
    with Journal.open(path, plan()) as journal:
        assert (journal.run, list(journal.done.values())) == (run, [one])
        journal.add(measured_program(PRINTS, job(), **{**KNOWN, "iteration": 2}))
    assert [json.loads(line).get("iteration") for line in path.read_text().splitlines()] == [None, 1, 2]


def test_the_journal_of_another_benchmark_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal.open(path, plan()).__exit__(None, None, None)
    kept = path.read_bytes()
    with pytest.raises(JournalError, match="another benchmark"):
        Journal.open(path, plan(2))
    assert path.read_bytes() == kept
    with Journal.open(path, plan()), pytest.raises(JournalError, match="under way"):
        Journal.open(path, plan())
    path.write_text("# My diary\n")
    with pytest.raises(JournalError, match="no journal"):
        Journal.open(path, plan())


def ask_service(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[dict[str, Any], float | None]:
    """Run a job against a transport."""

    async def run() -> tuple[dict[str, Any], float | None]:
        service = Config("http://127.0.0.1:1", "k")
        async with BenchClient(service, 2, httpx.MockTransport(answer)) as client:
            return await client.measured({"code": "1"}, "key")

    return asyncio.run(run())


def test_a_busy_service_is_waited_for_and_that_is_no_latency() -> None:
    answers = [
        httpx.Response(429, headers={"Retry-After": "0"}),
        httpx.Response(202, json=job(state="queued")),
        httpx.Response(200, json=job()),
    ]
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answers[len(seen) - 1]

    found, seconds = ask_service(answer)
    assert found["state"] == "finished"
    assert seconds is not None, "a request that was refused had no effect"
    assert [request.method for request in seen] == ["POST", "POST", "GET"]
    assert {request.headers.get("Idempotency-Key") for request in seen[:2]} == {"key"}


@pytest.mark.parametrize("lost", [True, False])
def test_the_time_of_a_job_from_before_is_not_ours(lost: bool) -> None:
    tries: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        if lost and len(tries) == 1:
            raise httpx.ReadError("gone", request=request)
        return httpx.Response(200, json=job(), headers={} if lost else {"Idempotency-Replayed": "true"})

    assert ask_service(answer)[1] is None


def test_what_is_refused_is_told_with_its_field() -> None:
    problem = {
        "title": "Invalid",
        "type": "urn:retort:problem:invalid",
        "detail": "d",
        "errors": [{"field": "model", "message": "no", "allowed": ["a"]}],
    }
    with pytest.raises(Refused, match=r"(?s)Invalid: d.*model: no \(allowed: a\)"):
        ask_service(lambda _: httpx.Response(422, json=problem))
    with pytest.raises(UnexpectedAnswer, match="RETORT_URL"):
        ask_service(lambda _: httpx.Response(404, text="<html>"))
    with pytest.raises(Refused, match="No gateway"):
        ask_service(
            lambda _: httpx.Response(503, json={"title": "No gateway", "type": "urn:retort:problem:no-gateway"})
        )
    assert measured_program(PRINTS, job(), **{**KNOWN, "subject": EXECUTION}).key == "execution/p/1"
