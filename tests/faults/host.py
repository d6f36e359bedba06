"""A worker that faults are injected into, and the lines that it depends on. Its leases are short."""

import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from tests.harness import ROOT, Worker, containers, instance_name, ready
from tests.tasks import QUICK

if TYPE_CHECKING:
    from tests.faults.stack import Stack

#: Seconds of a lease here, and until a worker that hears nothing ends.
LEASE_S = 3.0
DEAF_S = 4.0

#: Jobs that a worker has at the same time.
JOBS = 4

#: So that a model that is away is tried again within seconds.
MODELS = {
    **QUICK,
    "RETORT_MODEL_BREAKER_THRESHOLD": "3",
    "RETORT_MODEL_BREAKER_TIMEOUT_S": "1",
    "RETORT_MODEL_LEASE_S": "3",
}


class Host:
    """A worker with an instance of its own, and the lines that it depends on."""

    def __init__(self, stack: "Stack", name: str) -> None:
        self.name = name
        self.instance = instance_name()
        self.folder = stack.folder / name
        self.fuses = self.folder / "fuses"
        self.fuses.mkdir(parents=True)
        self.database = stack.proxy(stack.postgres_socket)
        self.broker = stack.proxy(stack.valkey.socket)
        self.engine = stack.proxy(stack.engine_socket, self.folder / "engine.sock")
        self.worker: Worker | None = None
        self._stack = stack
        self._starts = 0

    def start(
        self,
        *,
        wait: bool = True,
        source: Path = ROOT,
        environment: dict[str, str] | None = None,
        **settings: str,
    ) -> Worker:
        """Start a process; it may be the first of this instance or not."""
        stack = self._stack
        with suppress(DBAPIError):
            stack.table.forget(self.instance)
        self._starts += 1
        # One folder for all starts: an instance is single by a lock in it.
        worker = self.worker = Worker(
            self.folder / f"log{self._starts}",
            database_url(self.database.port),
            broker_url(self.broker.port),
            instance=self.instance,
            source=source,
            environment={
                "DOCKER_HOST": f"unix://{self.folder / 'engine.sock'}",
                **stack.model_environment,
                **MODELS,
                **(environment or {}),
            },
            **{
                "jobs": str(JOBS),
                "warm_most": "2",
                "lease_s": str(LEASE_S),
                "deaf_s": str(DEAF_S),
                "storage_url": (stack.folder / "storage").as_uri(),
                "fault_fuses": str(self.fuses),
                "test_mode": "true",
                **settings,
            },
        )
        stack.workers.append(worker)
        if wait:
            ready(stack.table, worker)
        return worker

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.worker is not None and self.worker.process.poll() is None

    def kill(self) -> None:
        """End its process as a crash does."""
        assert self.worker is not None
        self.worker.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self.worker is not None
        self.worker.process.send_signal(number)

    def stop(self) -> int:
        """End its process politely; its exit status."""
        assert self.worker is not None
        return self.worker.stop()

    def arm(self, boundary: str, job_id: UUID | None = None) -> None:
        """Have its process die at a boundary: once, or of this job each time."""
        (self.fuses / (boundary if job_id is None else f"{boundary}.{job_id}")).touch()

    def disarm(self) -> None:
        """Let it live."""
        for fuse in self.fuses.iterdir():
            fuse.unlink(missing_ok=True)

    def containers(self) -> set[str]:
        """All of its containers."""
        return set(containers(self._stack.docker, self.instance))

    def logs(self) -> str:
        """What all of its processes wrote."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("log*")))


def database_url(port: int) -> str:
    """PostgreSQL behind a proxy."""
    options = "sslmode=disable&gssencmode=disable"
    return f"postgresql+psycopg://retort@127.0.0.1:{port}/retort?{options}"


def broker_url(port: int) -> str:
    """Valkey behind a proxy."""
    return f"redis://127.0.0.1:{port}/0"
