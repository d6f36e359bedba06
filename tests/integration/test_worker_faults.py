"""Workers that are killed, stopped, or have no engine; each test has workers of its own."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import docker
import pytest

from domain.bell import SANDBOX_QUEUE
from tests.harness import Broker, Jobs, Worker, containers, end_all, eventually, instance_name, ready

Start = Callable[..., Worker]


@pytest.fixture
def instance() -> str:
    """A name of the test's own."""
    return instance_name()


@pytest.fixture
def start(
    jobs_table: Jobs,
    broker: Broker,
    database_url: str,
    redis_url: str,
    engine: docker.DockerClient,
    instance: str,
    tmp_path: Path,
) -> Iterator[Start]:
    """Starts workers of the test's instance; ends what the test leaves."""
    started: list[Worker] = []

    def new(*, wait: bool = True, environment: dict[str, str] | None = None, **settings: str) -> Worker:
        jobs_table.forget(instance)
        worker = Worker(
            tmp_path / f"log{len(started)}",
            database_url,
            redis_url,
            instance=instance,
            environment=environment,
            **settings,
        )
        started.append(worker)
        if wait:
            ready(jobs_table, worker)
        return worker

    yield new
    print(*(worker.log.read_text() for worker in started))
    end_all(engine, started)


def numbered(jobs_table: Jobs, count: int, *, pause_s: float = 0.0, never_every: int = 0) -> dict[UUID, bytes]:
    """That many jobs that print their number, and what each must print; some in a cell of their own."""
    rows = [
        jobs_table.row(
            f"import time; time.sleep({pause_s}); print({n})",
            reuse="never" if never_every and n % never_every == 0 else "caller",
        )
        for n in range(count)
    ]
    jobs_table.add_many(rows)
    return {row["id"]: b"%d\n" % n for n, row in enumerate(rows)}


def results(jobs_table: Jobs) -> dict[UUID, list[bytes]]:
    """What each job printed in the runs that ended with `ok`."""
    return {
        job_id: [stdout for verdict, stdout in recorded if verdict == "ok"]
        for job_id, recorded in jobs_table.outputs().items()
    }


def test_a_thousand_jobs_at_once_and_not_a_trace_is_left(
    start: Start, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient, instance: str
) -> None:
    worker = start()
    expected = numbered(jobs_table, 1000, never_every=25)
    broker.ring(*expected)
    eventually(lambda: jobs_table.unfinished() == 0, "all jobs end", within_s=200)
    assert jobs_table.outputs() == {job_id: [("ok", printed)] for job_id, printed in expected.items()}
    assert jobs_table.count("finished") == 1000
    assert worker.stop() == 0
    assert containers(engine, instance) == []
    assert jobs_table.worker(instance) is None


def test_a_killed_workers_jobs_are_done_by_the_next(
    start: Start, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient, instance: str
) -> None:
    expected = numbered(jobs_table, 100, pause_s=0.05)
    first = start()
    broker.ring(*expected)
    eventually(lambda: jobs_table.count("finished") >= 20 and jobs_table.count("running") > 0, "it is at work")
    first.kill()
    assert 20 <= jobs_table.count("finished") < 100
    lost = jobs_table.count("running")
    jobs_table.expire()
    second = start()
    eventually(lambda: jobs_table.unfinished() == 0, "all jobs end", within_s=120)
    assert results(jobs_table) == {job_id: [printed] for job_id, printed in expected.items()}
    failures = [
        verdict for recorded in jobs_table.outputs().values() for verdict, _ in recorded if verdict is None
    ]
    assert len(failures) == lost
    assert second.stop() == 0
    assert containers(engine, instance) == []


def test_the_next_worker_removes_what_a_killed_one_left(
    start: Start, engine: docker.DockerClient, instance: str
) -> None:
    start().kill()
    stale = set(containers(engine, instance))
    # Others' containers are none of its business.
    other = {"retort.instance": f"{instance}-other"}
    others = engine.api.create_container(image_of(engine), ["true"], labels=other)["Id"]
    try:
        start()
        assert not stale & set(containers(engine, instance))
        assert containers(engine, f"{instance}-other") == [others]
    finally:
        engine.api.remove_container(others, force=True)


def image_of(engine: docker.DockerClient) -> str:
    """Any image that is there."""
    return str(engine.api.images()[0]["Id"])


def test_without_an_engine_jobs_wait_and_the_worker_says_why(
    start: Start, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient, instance: str
) -> None:
    away = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    idle = start(wait=False, environment=away, deaf_s="2")
    eventually(lambda: jobs_table.worker(instance) is not None, "it reports")
    expected = numbered(jobs_table, 5)
    broker.ring(*expected)
    time.sleep(4)  # for what must not happen: it leads messages to nothing, or thinks itself deaf
    assert broker.waiting() >= 5
    row = jobs_table.worker(instance)
    assert row is not None
    assert not row.ready
    assert "engine does not answer" in row.why_not
    assert jobs_table.count("queued") == 5
    assert all(jobs_table.get(job_id).claims == 0 for job_id in expected)
    assert jobs_table.outputs() == {}
    assert idle.stop() == 0
    assert jobs_table.worker(instance) is None

    start()
    eventually(lambda: jobs_table.unfinished() == 0, "all jobs end")
    assert jobs_table.outputs() == {job_id: [("ok", printed)] for job_id, printed in expected.items()}


def test_a_worker_that_is_told_to_stop_ends_what_it_began(
    start: Start,
    jobs_table: Jobs,
    broker: Broker,
    engine: docker.DockerClient,
    instance: str,
) -> None:
    worker = start(jobs="2")
    expected = numbered(jobs_table, 8, pause_s=1)
    broker.ring(*expected)
    eventually(lambda: jobs_table.count("running") == 2, "both its threads are at work")
    assert worker.stop() == 0
    # What ran is finished, what waited waits on, nothing hangs between.
    assert jobs_table.count("finished") == 2
    assert jobs_table.count("queued") == 6
    assert containers(engine, instance) == []
    assert jobs_table.worker(instance) is None

    start()
    eventually(lambda: jobs_table.unfinished() == 0, "all jobs end", within_s=90)
    assert jobs_table.outputs() == {job_id: [("ok", printed)] for job_id, printed in expected.items()}


def test_a_worker_that_is_stopped_while_it_starts_leaves_nothing(
    start: Start, engine: docker.DockerClient, instance: str
) -> None:
    worker = start(wait=False)
    eventually(lambda: len(containers(engine, instance)) > 0, "its first container is there")
    assert worker.stop() == 0
    assert containers(engine, instance) == []


def test_there_is_one_worker_of_a_name(start: Start, jobs_table: Jobs, broker: Broker) -> None:
    first = start()
    second = start(wait=False)
    assert second.process.wait(timeout=60) == 1
    assert second.said("runs here already")
    assert first.process.poll() is None
    (expected,) = numbered(jobs_table, 1).items()
    broker.ring(expected[0])
    eventually(lambda: jobs_table.unfinished() == 0, "the first still works")
    # A lock dies with its process: nobody has to remove anything.
    first.kill()
    start()


def test_a_message_that_is_none_ends_the_worker_and_the_next_one_works(
    start: Start, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient, instance: str
) -> None:
    """What is no message at all breaks Celery's own loop; the supervisor's fresh process finds it gone."""
    worker = start()
    broker.redis.lpush(SANDBOX_QUEUE, b"not JSON")
    expected = numbered(jobs_table, 3)
    broker.ring(*expected)
    assert worker.process.wait(timeout=60) != 0
    assert containers(engine, instance) == []
    start()
    eventually(lambda: jobs_table.unfinished() == 0, "all jobs end")
    assert results(jobs_table) == {job_id: [printed] for job_id, printed in expected.items()}
