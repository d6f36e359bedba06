"""Jobs that a worker runs: submitted, waited for, found among the containers."""

from typing import Any
from uuid import UUID

import docker
import docker.errors

from tests.harness import Broker, Jobs, Worker, containers, eventually

FINAL = ("finished", "cancelled", "broken")


def run(jobs_table: Jobs, broker: Broker, code: str, **values: Any) -> UUID:
    """Submit a job, and wait until it has ended."""
    job_id = jobs_table.add(code, **values)
    broker.ring(job_id)
    ended(jobs_table, job_id)
    return job_id


def ended(jobs_table: Jobs, job_id: UUID) -> None:
    """Wait for a job's end."""
    eventually(lambda: jobs_table.get(job_id).state in FINAL, "the job ends")


def busy_cell(engine: docker.DockerClient, worker: Worker, program: str) -> str:
    """The container in which a program runs."""
    found: list[str] = []

    def runs_in(container: str) -> bool:
        try:
            return program in str(engine.api.top(container, ps_args="-eo pid,args"))
        except docker.errors.APIError:  # not started yet, or gone
            return False

    def look() -> bool:
        found[:] = filter(runs_in, containers(engine, worker.instance))
        return len(found) == 1

    eventually(look, "the program is in a container")
    return found[0]


def freeze(engine: docker.DockerClient, container: str) -> None:
    """Pause a container. A busy kernel can miss some of its processes; the engine says 500 then."""

    def paused() -> bool:
        try:
            engine.api.pause(container)
        except docker.errors.APIError as error:
            if "unable to freeze" not in str(error):
                raise
            return False
        return True

    eventually(paused, "the container is paused")


#: A program that can be found among all processes, and runs for a minute.
LONG = "import subprocess; subprocess.run(['/bin/sleep', '60.{mark}'])"
