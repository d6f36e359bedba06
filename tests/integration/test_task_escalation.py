"""The fourth attempt goes to a more accurate model, where the job allows one. And long tasks."""

from collections.abc import Iterator

import docker
import pytest

from tests.conftest import ROOT, Services, empty
from tests.harness import Broker, Jobs
from tests.tasks import calls_of, run_task, task_worker

CHEAP, GOOD = "gemini-2.5-flash", "claude-sonnet-4-20250514"


@pytest.fixture(scope="module")
def served(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A worker with two models."""
    empty(services)
    folder = tmp_path_factory.mktemp("escalation")
    scripts = ROOT / "tests" / "tasks.toml"
    minute = {"RETORT_MODEL_WINDOW_S": "0.5"}  # of which long tasks need several
    with task_worker(services, engine, folder, scripts, models=f"{CHEAP},{GOOD}", environment=minute):
        yield


@pytest.mark.parametrize(
    ("policy", "models"),
    [
        ({"model": "auto", "route": "cost"}, [CHEAP, CHEAP, CHEAP, GOOD]),
        ({"model": CHEAP, "fallbacks": (GOOD,)}, [CHEAP, CHEAP, CHEAP, GOOD]),
        ({"model": CHEAP}, [CHEAP] * 4),
        ({"model": CHEAP, "fallbacks": ()}, [CHEAP] * 4),
    ],
)
def test_who_is_asked(
    served: None, jobs_table: Jobs, broker: Broker, policy: dict[str, object], models: list[str]
) -> None:
    job = run_task(jobs_table, broker, "[scripted:each-time-another] greet", policy=policy)
    assert job.reason.startswith("attempts_used")
    assert [call.model for call in calls_of(jobs_table, job.id)] == models
    assert [attempt.model for attempt in jobs_table.attempts(job.id)] == models
    assert job.model == models[-1]
    assert all(attempt.choice["reason"] for attempt in jobs_table.attempts(job.id))


def test_a_task_that_no_model_takes_whole_is_read_in_chunks(
    served: None, jobs_table: Jobs, broker: Broker
) -> None:
    sentence = "Of the rows that follow nothing is needed. "
    task = f"[scripted:long] Print it.\n{sentence * 20_000}\nThat was all of [scripted:long]."
    policy = {"model": GOOD, "fallbacks": ()}
    job = run_task(jobs_table, broker, task, policy=policy, check_by={"stdout": "42\n"})
    assert (job.verdict, job.outcome, job.reason) == ("ok", "passed", None)
    first, second, third, last = calls_of(jobs_table, job.id)
    assert [call.parameters.get("chunk") for call in (first, second, third, last)] == [
        [1, 3],
        [2, 3],
        [3, 3],
        None,
    ]
    assert "Processing chunk 1 of 3. Maintain context." in first.prompt["system"]
    (one,), (two,) = first.prompt["messages"], second.prompt["messages"]
    assert one["content"].endswith(sentence)
    assert two["content"].startswith("Notes on the chunk before:\nThe program prints [scripted:long]\n")
    # Not its context bounds a question here but the tokens that the model takes in a minute.
    assert all(len(each["content"]) <= 4 * 100_000 for each in (one, two))
    told = last.prompt["messages"][0]["content"]
    assert "[1]\nThe program prints [scripted:long]\n\n[2]\nforty-two.\n\n[3]\nNo more." in told
    assert len(told) < 5_000
    assert job.cost_usd == first.cost_usd + second.cost_usd + third.cost_usd + last.cost_usd


def test_a_task_of_too_many_chunks_is_refused(served: None, jobs_table: Jobs, broker: Broker) -> None:
    policy = {"model": GOOD, "fallbacks": ()}
    job = run_task(jobs_table, broker, "word " * 1_500_000, policy=policy)
    assert (job.state, job.verdict, job.outcome, job.cost_usd) == ("finished", "no_code", "failed", 0)
    assert job.reason.startswith("model_failed: the task is too long")
    assert "100,000 (claude-sonnet-4-20250514); data belongs in the job's files" in job.reason
    assert calls_of(jobs_table, job.id) == []
