"""Tasks with files, arguments and a wished version going in, and files coming out, in several languages."""

from collections.abc import Iterator

import docker
import pytest
from sqlalchemy import select

from domain.tables.attempt import artifacts
from tests.conftest import ROOT, Services, empty
from tests.harness import Broker, Jobs, Worker
from tests.tasks import calls_of, run_task, task_worker


@pytest.fixture(scope="module")
def served(
    services: Services, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """The worker."""
    empty(services)
    folder = tmp_path_factory.mktemp("files")
    script = ROOT / "tests" / "tasks.toml"
    with task_worker(services, engine, folder, script, warm_languages="bash,r") as (worker, _):
        yield worker


def test_a_task_is_told_of_its_inputs_and_gets_them(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    rows = b"1\n2\n39\n"
    given = {"name": "data/rows.csv", "size": len(rows), "sha256": "", "file": None}
    job = run_task(
        jobs_table,
        broker,
        "[scripted:sums-a-file] Sum the rows.",
        language="python@3.11",
        files=[given],
        inline_files=rows,
        args=["total"],
        check_by={"stdout": "total 42 True"},
    )
    assert (job.verdict, job.outcome, job.reason) == ("ok", "passed", None)
    (call,) = calls_of(jobs_table, job.id)
    asked = call.prompt["messages"][0]["content"]
    assert '"data/rows.csv", 7 bytes' in asked
    assert '["total"]' in asked
    assert "Python 3.11 program" in call.prompt["system"]


def test_a_plot_is_a_result_and_nothing_need_be_printed(
    served: Worker, jobs_table: Jobs, broker: Broker
) -> None:
    job = run_task(jobs_table, broker, "[scripted:draws] Draw bars into bars.png.", language="r")
    assert (job.verdict, job.outcome, job.reason) == ("ok", "ran", None)
    (attempt,) = jobs_table.attempts(job.id)
    assert (attempt.stdout, attempt.artifacts) == (b"", 1)
    with jobs_table.engine.connect() as connection:
        (kept,) = connection.execute(select(artifacts).where(artifacts.c.job_id == job.id)).all()
    assert (kept.name, kept.media_type) == ("bars.png", "image/png")


def test_the_next_turn_is_told_what_the_last_one_left(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    job = run_task(jobs_table, broker, "[scripted:leaves-half] Do it.", language="bash")
    assert (job.verdict, job.outcome) == ("ok", "ran")
    assert [attempt.artifacts for attempt in jobs_table.attempts(job.id)] == [1, 0]
    told = calls_of(jobs_table, job.id)[1].prompt["messages"][-1]["content"]
    assert 'Files that it left, gone by now: "half.csv" (2 bytes)' in told
    assert 'The file "half.csv" is:\n````text\n1\n````' in told
