"""A worker that dies between storing a job's artifacts and finishing it leaves nothing half recorded."""

from pathlib import Path

import docker
from sqlalchemy import select

from domain.tables.attempt import artifacts
from storage.store import Storage
from tests.harness import Broker, Jobs, Worker, end_all, eventually, instance_name, ready
from worker.retention import Retention
from worker.store import Store


def test_a_worker_killed_between_storing_and_finishing(
    jobs_table: Jobs,
    broker: Broker,
    database_url: str,
    redis_url: str,
    engine: docker.DockerClient,
    image: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "storage"
    instance = instance_name()

    def worker(log: str) -> Worker:
        jobs_table.forget(instance)
        made = Worker(tmp_path / log, database_url, redis_url, instance=instance, storage_url=folder.as_uri())
        ready(jobs_table, made)
        return made

    def stored() -> set[str]:
        """Objects that are whole; one that is being written has a # in its name."""
        return {path.name for path in (folder / "artifacts").glob("*") if "#" not in path.name}

    first = worker("first")
    second = None
    try:
        with jobs_table.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            connection.exec_driver_sql("LOCK TABLE artifacts IN SHARE MODE")  # finishing waits for this
            job_id = jobs_table.add("open('a', 'w').write('content')")
            broker.ring(job_id)
            eventually(lambda: len(stored()) == 1, "the artifact is stored")
            first.kill()
            (orphan,) = stored()
        assert jobs_table.get(job_id).state == "running"
        with jobs_table.engine.connect() as connection:
            assert connection.execute(select(artifacts)).all() == []
        jobs_table.expire(job_id)
        second = worker("second")
        eventually(lambda: jobs_table.get(job_id).state == "finished", "the job ends")
        with jobs_table.engine.connect() as connection:
            (row,) = connection.execute(select(artifacts)).all()
        assert (row.job_id, row.name, row.size) == (job_id, "a", 7)
        assert [each.failure for each in jobs_table.attempts(job_id)][-2:] == ["worker_lost", None]
        assert stored() == {orphan, str(row.id)}
        store = Store(database_url, threads=1)
        Retention(store, Storage(folder.as_uri()), files_days=1, artifacts_days=1, orphan_s=-60).step()
        store.close()
        assert stored() == {str(row.id)}
    finally:
        started = [each for each in (first, second) if each is not None]
        print(*(each.log.read_text() for each in started))
        end_all(engine, started)


def test_a_storage_that_fails_costs_the_artifacts_and_nothing_else(
    jobs_table: Jobs,
    broker: Broker,
    database_url: str,
    redis_url: str,
    engine: docker.DockerClient,
    image: str,
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "storage"
    blocked.write_text("no folder can be made here")
    instance = instance_name()
    worker = Worker(tmp_path / "log", database_url, redis_url, instance=instance, storage_url=blocked.as_uri())
    try:
        ready(jobs_table, worker)
        job_id = jobs_table.add("open('a', 'w').write('content'); print('done')")
        broker.ring(job_id)
        eventually(lambda: jobs_table.get(job_id).state == "finished", "the job ends")
        (attempt,) = jobs_table.attempts(job_id)
        assert (attempt.verdict, attempt.stdout, attempt.artifacts) == ("ok", b"done\n", 0)
        assert attempt.left_out == {"files": {"a": "not_stored"}, "more": 0}
        assert worker.said("an artifact was not stored")
    finally:
        print(worker.log.read_text())
        worker.end(engine)
