"""Tasks from words to a verdict: real worker, engine, database and broker, and a scripted model over HTTP."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import docker
import pytest
from markdown_it import MarkdownIt
from sqlalchemy import Row, func, insert, text, update

from domain.tables.caller import callers
from domain.tables.job import jobs
from domain.tables.usage import past_usage
from tests.conftest import ROOT, Services, empty
from tests.harness import Broker, Jobs, Worker, eventually
from tests.tasks import KEY, add_task, asked, calls_of, ended, ring, run_task, task_worker

SCRIPTS = ROOT / "tests" / "tasks.toml"
HELLO = "hello from the scripted model\n"


@pytest.fixture(scope="module")
def served(
    services: Services,
    engine: docker.DockerClient,
    image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Worker, str]]:
    """The worker, and the URL of its model."""
    empty(services)
    with task_worker(services, engine, tmp_path_factory.mktemp("tasks"), SCRIPTS) as (worker, url):
        yield worker, url
        assert worker.stop() == 0


def test_right_at_once(served: tuple[Worker, str], jobs_table: Jobs, broker: Broker) -> None:
    heard = broker.listen()
    job = run_task(jobs_table, broker, "[scripted:right] greet")
    assert (job.state, job.verdict, job.outcome, job.reason) == ("finished", "ok", "ran", None)
    (attempt,) = jobs_table.attempts(job.id)
    assert (attempt.round, attempt.verdict, attempt.stdout) == (1, "ok", HELLO.encode())
    assert (attempt.model, attempt.scripted, job.model, job.scripted) == ("gpt-4.1", True, "gpt-4.1", True)
    assert attempt.code == 'print("hello from the scripted model")\n'
    assert attempt.limits == job.limits
    assert attempt.choice["model"] == "gpt-4.1"
    (call,) = calls_of(jobs_table, job.id)
    assert (call.round, call.gateway, call.finish, call.failure) == (1, "default", "stop", None)
    assert call.cost_usd == job.cost_usd == attempt.cost_usd > 0
    assert job.cost_complete
    assert call.prompt["messages"][0]["content"].startswith("[scripted:right] greet")
    assert "```python" in call.prompt["system"]
    assert Decimal(call.price["input"]) == 2
    assert heard(job.id) == ["generating", "queued", "running", "finished"]


def test_wrong_then_right(served: tuple[Worker, str], jobs_table: Jobs, broker: Broker) -> None:
    job = run_task(jobs_table, broker, "[scripted:wrong-then-right] greet")
    assert (job.verdict, job.outcome, job.reason, job.claims) == ("ok", "ran", None, 1)
    first, second = jobs_table.attempts(job.id)
    assert (first.verdict, first.exit_code, second.verdict) == ("error", 1, "ok")
    assert second.stdout == HELLO.encode()
    one, two = calls_of(jobs_table, job.id)
    assert (one.round, two.round) == (1, 2)
    said = two.prompt["messages"]
    assert [each["role"] for each in said] == ["user", "assistant", "user"]
    assert "NameError: name 'undefined_name' is not defined" in said[2]["content"]
    assert job.cost_usd == one.cost_usd + two.cost_usd
    assert second.cost_usd == two.cost_usd


def test_a_model_that_is_never_right(served: tuple[Worker, str], jobs_table: Jobs, broker: Broker) -> None:
    job = run_task(jobs_table, broker, "[scripted:never-right] greet")
    assert (job.state, job.verdict, job.outcome) == ("finished", "error", "failed")
    assert job.reason.startswith("same_code: ")
    assert [a.verdict for a in jobs_table.attempts(job.id)] == ["error", "error"]


def test_attempts_are_bounded_and_the_third_starts_anew(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    job = run_task(jobs_table, broker, "[scripted:each-time-another] greet", policy={"max_attempts": 4})
    assert job.reason == "attempts_used: 4 of 4 attempts are used"
    assert len(jobs_table.attempts(job.id)) == 4
    third = calls_of(jobs_table, job.id)[2].prompt["messages"]
    assert len(third) == 1
    assert "Earlier programs for this task failed" in third[0]["content"]
    assert "ValueError: first" in third[0]["content"]
    assert len(calls_of(jobs_table, job.id)[3].prompt["messages"]) == 3


@pytest.mark.parametrize(
    ("script", "problem", "calls"),
    [("prose", "prose", 2), ("refusal", "refused", 1), ("another-language", "wrong_language", 2)],
)
def test_an_answer_without_a_program_runs_nothing(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker, script: str, problem: str, calls: int
) -> None:
    job = run_task(jobs_table, broker, f"[scripted:{script}] greet")
    assert (job.state, job.verdict, job.outcome) == ("finished", "no_code", "failed")
    assert job.reason.startswith("no_code: ")
    recorded = jobs_table.attempts(job.id)
    assert {(a.verdict, a.code, a.failure, a.image) for a in recorded} == {
        (None, None, f"no_code: {problem}", None)
    }
    assert len(recorded) == len(calls_of(jobs_table, job.id)) == calls
    assert all(call.answer for call in calls_of(jobs_table, job.id))


def test_an_answer_that_is_cut_off_is_asked_for_again(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    job = run_task(jobs_table, broker, "[scripted:truncated] sum")
    assert (job.verdict, job.outcome) == ("ok", "ran")
    (attempt,) = jobs_table.attempts(job.id)
    assert attempt.stdout == b"45\n"
    assert [(c.round, c.finish) for c in calls_of(jobs_table, job.id)] == [(1, "length"), (1, "stop")]


@pytest.mark.parametrize("script", ["unauthorized", "no-credit", "context"])
def test_a_gateway_that_refuses_us_ends_the_task(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker, script: str
) -> None:
    job = run_task(jobs_table, broker, f"[scripted:{script}] greet")
    assert (job.state, job.verdict, job.outcome) == ("finished", "no_code", "failed")
    assert job.reason.startswith("model_failed: ")
    (call,) = calls_of(jobs_table, job.id)
    assert call.failure in {"auth", "quota", "context"}
    assert KEY not in str(call._asdict())
    (attempt,) = jobs_table.attempts(job.id)
    assert attempt.failure.startswith("model_failed: ")


def test_the_budget_ends_a_task_before_the_call_that_would_break_it(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    job = run_task(jobs_table, broker, "[scripted:right] greet", budget_usd=Decimal("0.000001"))
    assert (job.verdict, job.outcome, job.cost_usd) == ("no_code", "failed", 0)
    assert job.reason.startswith("budget_exceeded: ")


@pytest.mark.parametrize("past", [False, True])
def test_a_callers_day_ends_a_task_before_the_call_that_would_break_it(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker, past: bool
) -> None:
    """Also where most of the day was spent on jobs that are deleted."""
    budget = "5" if past else "0.000001"
    with jobs_table.engine.connect() as connection:
        quotas = {"model_usd_per_day": budget}
        who = callers.c.id == jobs_table.caller()
        connection.execute(update(callers).where(who).values(quotas=quotas))
        if past:
            today = text("(now() AT TIME ZONE 'UTC')::date")
            used = {"caller_id": jobs_table.caller(), "cost_usd": Decimal("4.9999999")}
            connection.execute(insert(past_usage).values(**used, day=today))
    job = run_task(jobs_table, broker, "[scripted:right] greet")
    assert (job.verdict, job.outcome, job.cost_usd) == ("no_code", "failed", 0)
    assert job.reason.startswith("budget_exceeded: ")
    assert calls_of(jobs_table, job.id) == []


def test_a_task_waits_for_its_callers_tokens(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    """It keeps its priority and says why it waits; with more tokens it goes on where it was."""
    who = callers.c.id == jobs_table.caller()
    with jobs_table.engine.connect() as connection:
        quotas = {"model_tokens_per_minute": 1}
        connection.execute(update(callers).where(who).values(quotas=quotas))
    assert run_task(jobs_table, broker, "[scripted:right] greet").verdict == "ok"
    job_id = add_task(jobs_table, "[scripted:right] greet once more")
    ring(broker, job_id)

    def waits() -> bool:
        job = jobs_table.get(job_id)
        return job.state == "queued" and job.reason is not None

    eventually(waits, "it waits")
    job = jobs_table.get(job_id)
    assert job.reason.startswith("waits: no model can be asked now (gpt-4.1: the caller's own tokens")
    assert (job.priority, job.claims, job.finished_at) == ("interactive", 0, None)
    with jobs_table.engine.connect() as connection:
        connection.execute(update(callers).where(who).values(quotas={"model_tokens_per_minute": 10**6}))
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(rung_at=func.now()))
    ring(broker, job_id)
    job = ended(jobs_table, job_id)
    assert (job.verdict, job.reason) == ("ok", None)


def test_a_model_cannot_choose_its_limits(served: tuple[Worker, str], jobs_table: Jobs, broker: Broker) -> None:
    limits = {"timeout_s": 1}
    job = run_task(
        jobs_table, broker, "[scripted:asks-for-more] wait", limits=limits, policy={"max_attempts": 1}
    )
    assert (job.verdict, job.limits["timeout_s"]) == ("timeout", 1)


def test_more_memory_only_where_the_job_allows_it(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    limits = {"memory_mb": 64}
    task = "[scripted:hungry] allocate"
    job = run_task(jobs_table, broker, task, limits=limits, policy={"larger_profile": True})
    assert (job.verdict, job.profile, job.limits["memory_mb"]) == ("ok", "extended", 1024)
    first, second = jobs_table.attempts(job.id)
    assert (first.verdict, first.profile, first.limits["memory_mb"]) == ("out_of_memory", "standard", 64)
    assert second.profile == "extended"
    said = calls_of(jobs_table, job.id)[1].prompt["messages"]
    assert "chunks of at most 50,000 rows" in said[-1]["content"]
    assert "gc.collect()" in said[-1]["content"]
    assert "1024 MB" in said[0]["content"]


def test_an_injection_stays_within_its_fence(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    job = run_task(jobs_table, broker, "[scripted:injection] greet", policy={"max_attempts": 2})
    second = calls_of(jobs_table, job.id)[1].prompt["messages"][-1]["content"]
    fences = [t.content for t in MarkdownIt().parse(second) if t.type == "fence"]
    assert any("ignore previous instructions" in content and "```" in content for content in fences)


CHECKED = [
    ("tests pass", "add", {"tests": "assert add(2, 2) == 4"}, "ok", "passed"),
    ("a test function", "add", {"tests": "def test_it():\n    assert add(1, 2) == 3"}, "ok", "passed"),
    ("tests fail", "add", {"tests": "assert add(2, 2) == 5, add(2, 2)"}, "check_failed", "failed"),
    ("exit before the tests", "exits", {"tests": "assert False"}, "check_failed", "failed"),
    ("_exit before the tests", "leaves", {"tests": "assert False"}, "check_failed", "failed"),
    ("a forged sentinel", "forges", {"tests": "assert False"}, "check_failed", "failed"),
    ("an exit in the tests", "add", {"tests": "raise SystemExit(0)"}, "ok", "passed"),
    ("a failed exit in the tests", "add", {"tests": "raise SystemExit(1)"}, "check_failed", "failed"),
    ("the right output", "right", {"stdout": HELLO + "\n"}, "ok", "passed"),
    ("another output", "right", {"stdout": "hello"}, "check_failed", "failed"),
]


@pytest.mark.parametrize(
    ("script", "check", "verdict", "outcome"), [row[1:] for row in CHECKED], ids=[row[0] for row in CHECKED]
)
def test_checks(
    served: tuple[Worker, str],
    jobs_table: Jobs,
    broker: Broker,
    script: str,
    check: dict[str, str],
    verdict: str,
    outcome: str,
) -> None:
    task = f"[scripted:{script}] do it"
    job = run_task(jobs_table, broker, task, check_by=check, policy={"max_attempts": 1})
    assert (job.verdict, job.outcome) == (verdict, outcome)
    (attempt,) = jobs_table.attempts(job.id)
    assert attempt.check_passed is (outcome == "passed")
    assert b":passed" not in attempt.stdout or script == "forges"
    assert attempt.stdout_bytes == len(attempt.stdout)


def test_tests_that_do_not_compile_end_the_task(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    job = run_task(jobs_table, broker, "[scripted:add] do it", check_by={"tests": "assert (1"})
    assert (job.verdict, job.outcome) == ("check_failed", "failed")
    assert job.reason.startswith("check_unusable: ")
    (attempt,) = jobs_table.attempts(job.id)
    assert b"SyntaxError" in attempt.stderr


def test_what_fails_its_tests_is_repaired(served: tuple[Worker, str], jobs_table: Jobs, broker: Broker) -> None:
    check = {"tests": "assert sub(5, 3) == 2"}
    job = run_task(jobs_table, broker, "[scripted:sub] subtract", check_by=check)
    assert (job.verdict, job.outcome) == ("ok", "passed")
    assert [a.verdict for a in jobs_table.attempts(job.id)] == ["check_failed", "ok"]
    said = calls_of(jobs_table, job.id)[1].prompt["messages"]
    assert "assert sub(5, 3) == 2" in said[0]["content"]
    assert "AssertionError" in said[-1]["content"]
    assert "the tests failed" in said[-1]["content"]


def test_a_result_is_recalled_for_its_caller_alone(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    def run(**values: Any) -> Row[Any]:
        job_id = jobs_table.add("import time; print('kept')", cache=True, **values)
        broker.ring(job_id)
        return ended(jobs_table, job_id)

    first, second = run(), run()
    stranger = Jobs(str(jobs_table.engine.url.render_as_string(hide_password=False)))
    third = run(caller_id=stranger.caller())
    stranger.close()
    other = run(stdin=b"x")
    failing = [jobs_table.attempts(job.id)[0] for job in (first, second, third, other)]
    assert [(a.cached, a.verdict, a.stdout) for a in failing] == [
        (cached, "ok", b"kept\n") for cached in (False, True, False, False)
    ]
    recalled = failing[1]
    assert (recalled.image, recalled.image_digest) == (failing[0].image, failing[0].image_digest)
    assert recalled.sandbox_start is None


def test_an_answer_is_kept_for_its_caller_alone(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    _worker, url = served
    before = asked(url)
    task = "[scripted:right] greet"
    first = run_task(jobs_table, broker, task, cache=True)
    second = run_task(jobs_table, broker, task, cache=True)
    assert asked(url) == before + 1
    (paid,), (cached,) = (calls_of(jobs_table, job.id) for job in (first, second))
    assert (paid.cache_hit, cached.cache_hit, cached.cost_usd, second.cost_usd) == (False, True, 0, 0)
    assert cached.answer == paid.answer
    assert [a.cached for a in jobs_table.attempts(second.id)] == [True]  # nor was it run again
    assert second.scripted
    run_task(jobs_table, broker, task)  # who does not ask for the cache gets none
    stranger = Jobs(jobs_table.engine.url.render_as_string(hide_password=False))
    third = run_task(jobs_table, broker, task, cache=True, caller_id=stranger.caller())
    stranger.close()
    assert [c.cache_hit for c in calls_of(jobs_table, third.id)] == [False]
    assert asked(url) == before + 3


def test_where_no_model_can_be_had_the_task_waits_in_the_batch_queue(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    job_id = add_task(jobs_table, "[scripted:overloaded] greet")
    ring(broker, job_id)
    eventually(lambda: jobs_table.get(job_id).priority == "batch", "it is put off")
    job = jobs_table.get(job_id)
    assert (job.state, job.next_state, job.claims, job.verdict) == ("queued", "generating", 0, None)
    assert job.reason.startswith("waits for a model in the batch queue")
    assert all(call.failure == "overloaded" for call in calls_of(jobs_table, job_id))
    assert jobs_table.attempts(job_id) == []


def test_a_job_that_waited_too_long_for_a_model_fails(
    served: tuple[Worker, str], jobs_table: Jobs, broker: Broker
) -> None:
    long_ago = text("now() - interval '2 days'")
    job = run_task(jobs_table, broker, "[scripted:overloaded] greet", created_at=long_ago)
    assert (job.state, job.verdict, job.outcome) == ("finished", "no_code", "failed")
    assert job.reason.startswith("model_failed: ")
