"""What tests of tasks share: a worker that asks a scripted model, tasks in the database, calls counted."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import docker
import httpx
from sqlalchemy import Row, select

from domain.bell import ADVANCE, MODEL_QUEUE
from domain.tables.attempt import model_calls
from domain.tasks import Policy
from tests.conftest import Services
from tests.harness import Broker, Jobs, Worker, eventually, instance_name, ready
from tests.models import scripted_process

FINAL = ("finished", "cancelled", "broken")
#: Failures of a scripted gateway are not waited for.
QUICK = {"RETORT_MODEL_RETRIES": "1", "RETORT_MODEL_RETRY_BASE_S": "0.05", "RETORT_MODEL_RETRY_JITTER_S": "0"}
KEY = "hs_0123456789abcdefghijklmnopqrstuvwxyz"


def gateway_environment(url: str, models: str = "gpt-4.1", key_file: Path | None = None) -> dict[str, str]:
    """What tells a worker of a gateway, and of its key, which may be in a file."""
    key = {"RETORT_GATEWAY_KEY": KEY} if key_file is None else {"RETORT_GATEWAY_KEY_FILE": str(key_file)}
    return {"RETORT_GATEWAY_URL": url, "RETORT_GATEWAY_MODELS": models, **key}


@contextmanager
def task_worker(
    services: Services,
    engine: docker.DockerClient,
    folder: Path,
    *scripts: Path,
    models: str = "gpt-4.1",
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> Iterator[tuple[Worker, str]]:
    """A worker that serves both kinds of steps, and the URL of its scripted model."""
    with ExitStack() as closing:
        options = [part for path in scripts for part in ("--scripts", str(path))]
        url = closing.enter_context(scripted_process(folder / "model.log", *options))
        table = Jobs(services.database_url)
        closing.callback(table.close)
        log = folder / "worker.log"
        worker = Worker(
            log,
            services.database_url,
            services.redis_url,
            instance=instance_name(),
            environment={**gateway_environment(url, models), **QUICK, **(environment or {})},
            **settings,
        )
        closing.callback(worker.end, engine)
        closing.callback(lambda: print(log.read_text()))
        ready(table, worker)
        yield worker, url


def add_task(jobs_table: Jobs, task: str, **values: Any) -> UUID:
    """A queued task as the API would store it."""
    policy = Policy(**values.pop("policy", {}))
    usual = {"code": None, "task": task, "policy": policy.as_dict(), "next_state": "generating"}
    return jobs_table.add(**{**usual, "reuse": "caller", **values})


def ring(broker: Broker, *job_ids: UUID) -> None:
    """Ring for a model's step."""
    for job_id in job_ids:
        broker.celery.send_task(ADVANCE, args=[str(job_id)], queue=MODEL_QUEUE)


def ended(jobs_table: Jobs, job_id: UUID, within_s: float = 60) -> Row[Any]:
    """The job, when it has ended."""
    eventually(lambda: jobs_table.get(job_id).state in FINAL, "the task ends", within_s)
    return jobs_table.get(job_id)


def run_task(jobs_table: Jobs, broker: Broker, task: str, **values: Any) -> Row[Any]:
    """Submit a task, and wait for its end."""
    job_id = add_task(jobs_table, task, **values)
    ring(broker, job_id)
    return ended(jobs_table, job_id)


def calls_of(jobs_table: Jobs, job_id: UUID) -> list[Row[Any]]:
    """Every call of a model that was made for a job, in order."""
    query = select(model_calls).where(model_calls.c.job_id == job_id).order_by(model_calls.c.id)
    with jobs_table.engine.connect() as connection:
        return list(connection.execute(query))


def asked(url: str) -> int:
    """Requests that the scripted model got."""
    stats = httpx.get(url.removesuffix("/v1") + "/scripted/seen", trust_env=False).json()
    return int(stats["requests"])
