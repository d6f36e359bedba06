"""What tests of several folders share: patience, the jobs table as tests reach it, and a worker process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import docker
import docker.errors
import redis
from celery import Celery
from sqlalchemy import Engine, Row, create_engine, insert, select, text, update

from domain import worker_statements
from domain.bell import ADVANCE, SANDBOX_QUEUE, STATES_CHANNEL, celery_broker_url, parse_state_message
from domain.ids import new_id
from domain.limits import load_profiles
from domain.states import FINAL_STATES
from domain.tables.attempt import attempts
from domain.tables.caller import callers
from domain.tables.job import jobs
from domain.tables.worker import workers

ROOT = Path(__file__).parents[1]
LIMITS = load_profiles()["standard"].defaults


def eventually(true: Callable[[], bool], what: str | Callable[[], str], within_s: float = 120) -> None:
    """Look until something is so. The bound only ends a test that has failed already."""
    until = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until:
            raise AssertionError(f"never: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def attempt(**values: Any) -> dict[str, Any]:
    """What a worker records of a run that printed nothing and exited with 0."""
    usual: dict[str, Any] = {
        "verdict": "ok",
        "exit_code": 0,
        "stdout": b"",
        "stderr": b"",
        "wall_s": 0.25,
        "sandbox_start": "warm",
        **values,
    }
    return {"stdout_bytes": len(usual["stdout"]), "stderr_bytes": len(usual["stderr"]), **usual}


class Jobs:
    """The tables of jobs and attempts."""

    def __init__(self, database_url: str) -> None:
        self.engine: Engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
        self._caller: UUID | None = None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def caller(self) -> UUID:
        """A caller; always the same one."""
        if self._caller is None:
            self._caller = new_id()
            with self.engine.connect() as connection:
                connection.execute(insert(callers), {"id": self._caller, "name": f"tests {self._caller}"})
        return self._caller

    def row(self, code: str = "print(1)", **values: Any) -> dict[str, Any]:
        """A job as the API would store it."""
        limits = {**LIMITS.as_dict(), **values.pop("limits", {})}
        usual = {"id": new_id(), "caller_id": self.caller(), "code": code, "language": "python"}
        return {**usual, "profile": "standard", "limits": limits, **values}

    def add(self, code: str = "print(1)", **values: Any) -> UUID:
        """A queued job; nobody is told of it."""
        row = self.row(code, **values)
        with self.engine.connect() as connection:
            connection.execute(insert(jobs).values(row))
        added: UUID = row["id"]
        return added

    def add_many(self, rows: Iterable[Mapping[str, Any]]) -> list[UUID]:
        """All these jobs in one transaction."""
        rows = list(rows)
        with self.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            connection.execute(insert(jobs), rows)
        return [row["id"] for row in rows]

    def get(self, job_id: UUID) -> Row[Any]:
        """A job's row."""
        with self.engine.connect() as connection:
            return connection.execute(select(jobs).where(jobs.c.id == job_id)).one()

    def attempts(self, job_id: UUID) -> list[Row[Any]]:
        """Its attempts, in order."""
        query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def count(self, *states: str) -> int:
        """How many jobs are in one of these states."""
        with self.engine.connect() as connection:
            return len(connection.execute(select(jobs.c.id).where(jobs.c.state.in_(states))).all())

    def unfinished(self) -> int:
        """How many jobs are not in a final state."""
        final = [state.value for state in FINAL_STATES]
        with self.engine.connect() as connection:
            return len(connection.execute(select(jobs.c.id).where(jobs.c.state.not_in(final))).all())

    def outputs(self) -> dict[UUID, list[tuple[str | None, bytes]]]:
        """For each job, the verdict and output of each attempt."""
        found: dict[UUID, list[tuple[str | None, bytes]]] = {}
        with self.engine.connect() as connection:
            query = select(attempts.c.job_id, attempts.c.verdict, attempts.c.stdout).order_by(attempts.c.number)
            for row in connection.execute(query):
                found.setdefault(row.job_id, []).append((row.verdict, bytes(row.stdout)))
        return found

    def set(self, job_id: UUID | None, **values: Any) -> None:
        """Change columns of one job, or of all, behind everybody's back."""
        which = update(jobs) if job_id is None else update(jobs).where(jobs.c.id == job_id)
        with self.engine.connect() as connection:
            connection.execute(which.values(**values))

    def expire(self, job_id: UUID | None = None) -> None:
        """Let the lease of one job, or of all that are leased, have run out."""
        which = update(jobs).where(jobs.c.lease_token.is_not(None))
        if job_id is not None:
            which = which.where(jobs.c.id == job_id)
        past = text("now() - interval '1 second'")
        overdue = text("now() - interval '1 minute'")
        with self.engine.connect() as connection:
            connection.execute(which.values(lease_until=past, rung_at=overdue))

    def worker(self, instance: str) -> Row[Any] | None:
        """What a worker last said of itself."""
        with self.engine.connect() as connection:
            return connection.execute(select(workers).where(workers.c.instance == instance)).first()

    def forget(self, instance: str) -> None:
        """Forget what a worker said, so that what is read next is new."""
        with self.engine.connect() as connection:
            connection.execute(worker_statements.FORGET_WORKER, {"b_instance": instance})


class Broker:
    """The broker and the event bus."""

    def __init__(self, redis_url: str) -> None:
        self.redis = redis.Redis.from_url(redis_url)
        self.celery = Celery("tests", broker=celery_broker_url(redis_url), set_as_current=False)

    def close(self) -> None:
        """Hang up."""
        self.celery.close()
        self.redis.close()

    def ring(self, *job_ids: UUID) -> None:
        """Ring for jobs as any Celery client does."""
        with (
            self.celery.connection_for_write() as connection,
            self.celery.amqp.Producer(connection) as producer,
        ):
            for job_id in job_ids:
                self.celery.send_task(ADVANCE, args=[str(job_id)], queue=SANDBOX_QUEUE, producer=producer)

    def waiting(self) -> int:
        """Messages that nobody took."""
        return int(self.redis.llen(SANDBOX_QUEUE))

    def listen(self) -> Callable[[UUID], list[str]]:
        """Listen to states from now on; gives what was heard of a job so far."""
        heard: list[tuple[UUID, str]] = []
        bus = self.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        bus.subscribe(STATES_CHANNEL)
        bus.get_message(timeout=5)  # that we are subscribed

        def of(job_id: UUID) -> list[str]:
            while (message := bus.get_message()) is not None:
                heard.append(parse_state_message(message["data"].decode()))
            return [state for job, state in heard if job == job_id]

        return of


#: Instances of which a worker was killed or crashed: what the engine was creating for it may appear later.
KILLED: set[str] = set()


def instance_name() -> str:
    """A name that no other worker has."""
    return f"test-{uuid4().hex[:10]}"


class Worker:
    """`python -m worker.main`, its log in a file."""

    def __init__(
        self,
        log: Path,
        database_url: str,
        redis_url: str,
        *,
        instance: str,
        environment: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
        source: str | Path = ROOT,
        **settings: str,
    ) -> None:
        """`inside`: a command that runs another one somewhere else, as in a network of its own."""
        self.log = log
        self.instance = instance
        self._told = False
        given = {
            "database_url": database_url,
            "redis_url": redis_url,
            "warm_least": "1",
            "warm_languages": "python",
        }
        given |= {"state_dir": str(log.parent), **settings}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*inside, sys.executable, "-m", "worker.main"],
                cwd=source,
                env={
                    **os.environ,
                    "PYTHONPATH": str(source),
                    "RETORT_INSTANCE": instance,
                    **{f"RETORT_{name.upper()}": value for name, value in given.items()},
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )

    def said(self, pattern: str) -> bool:
        """Whether its log has this."""
        return re.search(pattern, self.log.read_text()) is not None

    def terminate(self) -> None:
        """Ask it to end, once: asked again it would leave its jobs."""
        if not self._told:
            self.process.send_signal(signal.SIGTERM)
        self._told = True

    def stop(self) -> int:
        """Ask it to end, and wait until it has; its exit status."""
        if self.process.poll() is None:
            self.terminate()
        return self.process.wait(timeout=90)

    def kill(self) -> None:
        """End it as a crash does."""
        KILLED.add(self.instance)
        self.process.kill()
        self.process.wait(timeout=30)

    def end(self, engine: docker.DockerClient) -> None:
        """Leave nothing of it, whatever became of the test."""
        end_all(engine, [self])


def end_all(engine: docker.DockerClient, workers: Sequence[Worker]) -> None:
    """Leave nothing of several workers: one that lives would start anew what is removed of its instance."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()
        if worker.process.returncode:
            KILLED.add(worker.instance)
    for instance in dict.fromkeys(worker.instance for worker in workers):
        sweep(engine, instance)


def sweep(engine: docker.DockerClient, instance: str) -> None:
    """Remove what is there of an instance, also what it was examining when it was killed.

    Looks again until nothing is there: a container that the engine was creating appears after the first look.
    """
    names = (instance, f"{instance}.posture")

    def gone() -> bool:
        left = [container for name in names for container in containers(engine, name)]
        for container in left:
            with suppress(docker.errors.NotFound):  # it was ending by itself
                try:
                    engine.api.remove_container(container, force=True)
                except docker.errors.APIError as e:
                    if e.status_code != 409:  # somebody removes it just now
                        raise
        return not left

    eventually(gone, lambda: f"nothing is left of {instance}: {described(engine, names)}")


def described(engine: docker.DockerClient, instances: Iterable[str]) -> list[tuple[str, str]]:
    """Name and state of every container of some instances."""
    found = [each for instance in instances for each in _listed(engine, instance)]
    return [(each["Names"][0], each["Status"]) for each in found]


def containers(engine: docker.DockerClient, instance: str) -> list[str]:
    """Every container of an instance, running or not."""
    return [container["Id"] for container in _listed(engine, instance)]


def _listed(engine: docker.DockerClient, instance: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.api.containers(
        all=True, filters={"label": f"retort.instance={instance}"}
    )
    return found


def ready(jobs_table: Jobs, worker: Worker) -> None:
    """Wait until a worker says that it can work and has a cell."""

    def look() -> bool:
        assert worker.process.poll() is None, worker.log.read_text()
        row = jobs_table.worker(worker.instance)
        return row is not None and row.ready and row.facts["pool"]["idle"] > 0

    eventually(look, "the worker is ready")
