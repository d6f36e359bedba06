"""Tasks from words to a verdict: real worker, engine, database and broker, and a scripted model over HTTP."""

from collections.abc import Iterator
from decimal import Decimal

import docker
import pytest

from tests.conftest import Services, empty
from tests.harness import Broker, Jobs, Worker
from tests.tasks import calls_of, run_task, task_worker

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
    with task_worker(services, engine, tmp_path_factory.mktemp("tasks")) as (worker, url):
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
