"""Jobs in other languages through a real worker: from the row to the row."""

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.conftest import Services, empty
from tests.harness import Broker, Jobs, Worker, eventually, instance_name, ready

HELLO = {
    "bash": "echo hello",
    "javascript": "console.log('hello')",
    "r": "cat('hello\\n')",
    "rust": 'fn main() { println!("hello"); }',
    "python@3.11": "import sys; print('hello' if sys.version_info[:2] == (3, 11) else sys.version)",
}
FINAL = ("finished", "cancelled", "broken")


@pytest.fixture(scope="module")
def worker(
    services: Services, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """A worker that has every image."""
    log = tmp_path_factory.mktemp("worker") / "log"
    empty(services)
    urls = (services.database_url, services.redis_url)
    worker = Worker(log, *urls, instance=instance_name(), warm_languages="bash")
    table = Jobs(services.database_url)
    try:
        ready(table, worker)
        yield worker
    finally:
        table.close()
        worker.end(engine)


@pytest.mark.parametrize("language", HELLO)
def test_hello(worker: Worker, jobs_table: Jobs, broker: Broker, language: str) -> None:
    job_id = jobs_table.add(HELLO[language], language=language)
    broker.ring(job_id)
    eventually(lambda: jobs_table.get(job_id).state in FINAL, "the job ends")
    [attempt] = jobs_table.attempts(job_id)
    assert (attempt.verdict, bytes(attempt.stdout)) == ("ok", b"hello\n"), jobs_table.get(job_id).reason
    assert attempt.image.startswith(f"retort/{language.split('@')[0]}:")
    assert attempt.image_digest.startswith("sha256:")
    # Of what is compiled alone, and the program's own time is without it.
    assert (attempt.compile_s is not None) == (language == "rust")
    assert language != "rust" or attempt.compile_s > attempt.wall_s > 0


def test_compile_error(worker: Worker, jobs_table: Jobs, broker: Broker) -> None:
    job_id = jobs_table.add("fn main() { nothing }", language="rust")
    broker.ring(job_id)
    eventually(lambda: jobs_table.get(job_id).state in FINAL, "the job ends")
    [attempt] = jobs_table.attempts(job_id)
    assert (jobs_table.get(job_id).verdict, attempt.exit_code) == ("compile_error", 1)
    assert b"cannot find value `nothing`" in bytes(attempt.stderr)
    assert attempt.compile_s > 0


def test_a_recalled_result_tells_what_compiling_it_took(
    worker: Worker, jobs_table: Jobs, broker: Broker
) -> None:
    found = []
    for _ in range(2):
        job_id = jobs_table.add(HELLO["rust"], language="rust", cache=True)
        broker.ring(job_id)
        eventually(lambda: jobs_table.get(job_id).state in FINAL, "the job ends")  # noqa: B023 (at once)
        found += jobs_table.attempts(job_id)
    assert [each.cached for each in found] == [False, True]
    assert found[0].compile_s == found[1].compile_s > 0


@pytest.mark.parametrize(
    ("language", "reason"),
    [
        ("cobol", "does not know the language 'cobol'"),
        ("python@3.9", "no image for python@3.9 in the profile standard"),
        ("python@tensorflow", "no image for python@tensorflow in the profile standard"),
    ],
)
def test_what_is_not_there(
    worker: Worker, jobs_table: Jobs, broker: Broker, language: str, reason: str
) -> None:
    job_id = jobs_table.add("1", language=language)
    broker.ring(job_id)
    eventually(lambda: jobs_table.get(job_id).state in FINAL, "the job ends")
    job = jobs_table.get(job_id)
    assert job.state == "broken"
    assert reason in job.reason


def test_the_worker_tells_what_it_has(worker: Worker, jobs_table: Jobs) -> None:
    eventually(lambda: len(told(jobs_table, worker)) >= 5, "it tells of all images")
    assert told(jobs_table, worker)["javascript"]["version"].startswith("20.")
    assert "numpy" in told(jobs_table, worker)["python"]["packages"]


def told(jobs_table: Jobs, worker: Worker) -> dict[str, dict[str, Any]]:
    """The images that the worker's report has."""
    row = jobs_table.worker(worker.instance)
    images: dict[str, dict[str, Any]] = row.facts["images"] if row else {}
    return images
