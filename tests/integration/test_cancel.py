"""Cancel against claim, run and end: exactly one of them wins, and what ran is killed."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID, uuid4

import docker
import psycopg
import pytest
from sqlalchemy import text

from domain.bell import CANCELS_CHANNEL
from domain.endings import CANCEL
from domain.removal import DELETE
from domain.states import State
from tests.conftest import Services, empty
from tests.harness import Broker, Jobs, Worker, attempt, containers, eventually, instance_name, ready
from worker.claimed import ClaimedJob
from worker.hot import Hot
from worker.store import Store

RACES = 960
REAL_RACES = 40
FINAL = ("finished", "cancelled", "broken")


@pytest.fixture
def store(clean_tables: None, database_url: str) -> Iterator[Store]:
    """The store of one worker."""
    opened = Store(database_url, threads=6)
    yield opened
    opened.close()


def cancel(hot: Hot, caller_id: UUID, job_id: UUID) -> str | None:
    """Cancel as the API does: the state that the job was in, or None if it had ended."""
    values = {"b_id": job_id, "b_caller_id": caller_id, "b_reason": "cancelled by its caller"}
    for _ in range(2):
        with suppress(psycopg.errors.UniqueViolation):
            won = hot.first(CANCEL, values)
            return None if won is None else str(won.was)
    raise AssertionError("an attempt's number was taken twice")


@pytest.fixture
def hot(jobs_table: Jobs) -> Hot:
    """Statements as the API runs them."""
    return Hot(jobs_table.engine)


def claimed(store: Store, job_id: UUID) -> ClaimedJob | None:
    return store.claim(job_id, uuid4(), "w", State.RUNNING)


def test_a_waiting_job(store: Store, jobs_table: Jobs, hot: Hot) -> None:
    job_id = jobs_table.add()
    assert cancel(hot, jobs_table.caller(), job_id) == "queued"
    assert cancel(hot, jobs_table.caller(), job_id) is None
    assert claimed(store, job_id) is None
    row = jobs_table.get(job_id)
    assert (row.state, row.verdict, row.reason) == ("cancelled", None, "cancelled by its caller")
    assert jobs_table.attempts(job_id) == []


def test_a_running_job(store: Store, jobs_table: Jobs, hot: Hot) -> None:
    """What ran is recorded as used; the worker's token is gone."""
    job_id = jobs_table.add()
    job = claimed(store, job_id)
    assert job is not None
    jobs_table.set(job_id, started_at=text("now() - interval '3 seconds'"))
    assert cancel(hot, jobs_table.caller(), job_id) == "running"
    assert store.heartbeat({job.token: job.id}) == set()
    assert not store.finish(job, verdict="ok", reason=None, attempt=attempt())
    assert not store.retry(job, attempt=attempt(verdict=None, failure="x"))
    assert not store.release(job)
    (ran,) = jobs_table.attempts(job_id)
    assert (ran.number, ran.verdict, ran.failure, ran.worker) == (1, None, "cancelled", "w")
    assert 3 <= ran.wall_s < 60


def test_nobody_cancels_anothers_job(jobs_table: Jobs, hot: Hot) -> None:
    job_id = jobs_table.add()
    assert cancel(hot, uuid4(), job_id) is None
    assert jobs_table.get(job_id).state == "queued"


def test_delete_waits_for_the_end(jobs_table: Jobs, hot: Hot, store: Store) -> None:
    job_id = jobs_table.add()
    values = {"b_id": job_id, "b_caller_id": jobs_table.caller()}
    assert hot.first(DELETE, values) is None
    cancel(hot, jobs_table.caller(), job_id)
    assert hot.first(DELETE, {**values, "b_caller_id": uuid4()}) is None
    with jobs_table.engine.begin() as connection:
        cached = "INSERT INTO response_cache (key, caller_id, job_id, answer) VALUES ('k', :caller, :job, '{}')"
        connection.execute(text(cached), {"caller": jobs_table.caller(), "job": job_id})
    assert hot.first(DELETE, values) == (job_id, [])
    assert jobs_table.count(*State) == 0
    with jobs_table.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM response_cache")).scalar_one() == 0


def test_races(store: Store, jobs_table: Jobs, hot: Hot) -> None:
    """A worker claims, loses, retries and ends jobs while they are cancelled, each after a random moment."""
    rng = random.Random(5)  # noqa: S311 (seeded on purpose)
    caller_id = jobs_table.caller()
    ids = jobs_table.add_many(jobs_table.row() for _ in range(RACES))
    plans = {job_id: (rng.random() * 0.004, rng.random() * 0.004, rng.random() * 0.002) for job_id in ids}
    kinds = {job_id: rng.choice(["finish", "retry", "lost", "release"]) for job_id in ids}

    def work(job_id: UUID) -> bool:
        time.sleep(plans[job_id][0])
        job = claimed(store, job_id)
        if job is None:
            return False
        time.sleep(plans[job_id][2])
        kind = kinds[job_id]
        failed = attempt(verdict=None, failure="engine")
        if (kind == "retry" and store.retry(job, attempt=failed)) or (kind == "release" and store.release(job)):
            job = claimed(store, job_id)
        elif kind == "lost":
            jobs_table.expire(job_id)
            job = claimed(store, job_id)
        return job is not None and store.finish(job, verdict="ok", reason=None, attempt=attempt())

    def end(job_id: UUID) -> str | None:
        time.sleep(plans[job_id][1])
        return cancel(hot, caller_id, job_id)

    won: Counter[str] = Counter()
    with ThreadPoolExecutor(6) as pool:
        pairs = [(job_id, pool.submit(work, job_id), pool.submit(end, job_id)) for job_id in ids]
        for job_id, worked, ended in pairs:
            finished, was = worked.result(60), ended.result(60)
            row, ran = jobs_table.get(job_id), jobs_table.attempts(job_id)
            assert finished is (was is None), (job_id, finished, was)
            assert row.state == ("finished" if finished else "cancelled")
            assert row.lease_token is None
            assert sum(each.verdict is not None for each in ran) == finished
            assert sum(each.failure == "cancelled" for each in ran) == (was == "running")
            assert [each.number for each in ran] == list(range(1, len(ran) + 1))
            won[was or "finished"] += 1
    assert all(won[outcome] > 20 for outcome in ("queued", "running", "finished")), won


# --- a real worker, real containers -------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(
    services: Services,
    engine: docker.DockerClient,
    image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    """The worker."""
    log = tmp_path_factory.mktemp("worker") / "log"
    empty(services)
    worker = Worker(log, services.database_url, services.redis_url, instance=instance_name(), jobs="4")
    table = Jobs(services.database_url)
    try:
        ready(table, worker)
        yield worker
        assert worker.stop() == 0
        assert containers(engine, worker.instance) == []
    finally:
        table.close()
        print(log.read_text())
        worker.end(engine)


def runs(engine: docker.DockerClient, worker: Worker, word: str) -> bool:
    """Whether a program with this word in it is in some container."""
    for container in containers(engine, worker.instance):
        with suppress(docker.errors.APIError):  # not started yet, or gone
            if word in str(engine.api.top(container, ps_args="-eo pid,args")):
                return True
    return False


@pytest.mark.parametrize("told", [True, False], ids=["told", "message lost"])
def test_what_runs_is_killed(
    served: Worker, jobs_table: Jobs, broker: Broker, hot: Hot, engine: docker.DockerClient, told: bool
) -> None:
    word = f"word{uuid4().hex}"
    code = f"import subprocess; subprocess.run(['sh', '-c', 'sleep 100; true', '{word}'])"
    job_id = jobs_table.add(code)
    broker.ring(job_id)
    eventually(lambda: runs(engine, served, word), "the program runs")
    assert cancel(hot, jobs_table.caller(), job_id) == "running"
    if told:
        for noise in ("x", "", str(uuid4())):
            broker.redis.publish(CANCELS_CHANNEL, noise)
        broker.redis.publish(CANCELS_CHANNEL, str(job_id))
    eventually(lambda: not runs(engine, served, word), "the program is killed")
    if told:
        # By the message, and not by a heartbeat, of which there is one in ten seconds.
        assert served.said(f"lease lost while its job ran.*{job_id}")
    assert jobs_table.get(job_id).state == "cancelled"


def taken(jobs_table: Jobs, job_id: UUID) -> None:
    """Wait until a worker has a job."""
    eventually(lambda: jobs_table.get(job_id).state != "queued", "it is taken")


def test_real_races(served: Worker, jobs_table: Jobs, broker: Broker, hot: Hot) -> None:
    rng = random.Random(7)  # noqa: S311 (seeded on purpose)
    codes = ["print(1)", "import time; time.sleep(0.02); print(1)", "import time; time.sleep(60)"]
    jobs = {jobs_table.add(codes[n % 3]): n % 3 for n in range(REAL_RACES)}
    won: dict[UUID, str | None] = {}
    for job_id, kind in jobs.items():
        broker.ring(job_id)
        if kind == 2 and rng.random() < 0.5:
            taken(jobs_table, job_id)
        time.sleep(rng.random() * 0.03)
        won[job_id] = cancel(hot, jobs_table.caller(), job_id)
        if won[job_id] is not None:
            broker.redis.publish(CANCELS_CHANNEL, str(job_id))
    eventually(lambda: jobs_table.unfinished() == 0, "every job ends")
    # The worker is free again: what was cancelled holds no place.
    after = jobs_table.add("print(2)")
    broker.ring(after)
    eventually(lambda: jobs_table.get(after).state == "finished", "a later job runs")
    for job_id, was in won.items():
        row, ran = jobs_table.get(job_id), jobs_table.attempts(job_id)
        assert (row.state, row.verdict) == (("finished", "ok") if was is None else ("cancelled", None))
        assert [each.verdict for each in ran if each.verdict] == (["ok"] if was is None else [])
        assert sum(each.failure == "cancelled" for each in ran) == (was == "running")
    assert set(won.values()) >= {"running"}
