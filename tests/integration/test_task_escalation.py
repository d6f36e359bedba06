"""The fourth attempt goes to a more accurate model, where the job allows one."""

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
    with task_worker(services, engine, folder, scripts, models=f"{CHEAP},{GOOD}"):
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
