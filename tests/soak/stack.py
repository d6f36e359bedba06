"""What is soaked: the whole service with two workers, each part a process that can be ended."""

import random
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import httpx
from sqlalchemy import text

from api import keys
from domain.quotas import Scope
from retort.embedded import Postgres, Valkey
from tests.conftest import ROOT, migrate
from tests.harness import Broker, Jobs, Worker, containers, instance_name, ready
from tests.integration.api.harness import Server
from tests.models import scripted_process
from tests.tasks import QUICK, gateway_environment

WORKERS = 2
JOBS = 4
SCRIPTS = ROOT / "tests" / "tasks.toml"
LANGUAGES = "python,bash,javascript"


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Place:
    """Where a worker runs: one instance, one process after the other."""

    def __init__(self, stack: "Stack", number: int) -> None:
        self.instance = instance_name()
        self.folder = stack.folder / f"worker{number}"
        self.folder.mkdir()
        self.away = False  # ended on purpose; nobody starts it again meanwhile
        self.stopped = False
        self.starts = 0
        self._stack = stack
        self.worker: Worker | None = None

    def start(self) -> None:
        """Start a process."""
        stack = self._stack
        self.starts += 1
        self.worker = Worker(
            self.folder / f"log{self.starts}",
            stack.postgres.url,
            stack.valkey.url,
            instance=self.instance,
            environment={**gateway_environment(stack.model_url), **QUICK},
            jobs=str(JOBS),
            warm_most="4",
            warm_languages=LANGUAGES,
            storage_url=(stack.folder / "storage").as_uri(),
        )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """Its process, living or not."""
        assert self.worker is not None
        return self.worker.process

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.worker is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.alive:
            self.process.send_signal(number)


class Stack:
    """See the module."""

    def __init__(self, folder: Path, engine: docker.DockerClient, closing: ExitStack) -> None:
        self.folder, self.engine = folder, engine
        self.postgres = Postgres(folder / "postgres", folder / "run")
        self.postgres.start()
        closing.callback(self.postgres.stop)
        self.valkey = Valkey(folder / "valkey", folder / "run")
        self.valkey.start()
        closing.callback(self.valkey.stop)
        migrate(self.postgres.url)
        self.table, self.broker = Jobs(self.postgres.url), Broker(self.valkey.url)
        closing.callback(self.table.close)
        closing.callback(self.broker.close)
        self.model_url = closing.enter_context(
            scripted_process(folder / "model.log", "--scripts", str(SCRIPTS))
        )
        with self.table.engine.begin() as connection:
            key = keys.create(connection, "soak", scopes=list(Scope))
        assert key is not None
        self.key = key
        self.port = free_port()
        self.api_starts = 0
        self.server: Server | None = None
        self.start_api()
        closing.callback(lambda: self.server.stop() if self.server is not None else None)
        self.places = [Place(self, number) for number in range(WORKERS)]
        for place in self.places:
            place.start()
            closing.callback(self._end, place)
        for place in self.places:
            assert place.worker is not None
            ready(self.table, place.worker)

    def _end(self, place: Place) -> None:
        place.signal(signal.SIGCONT)
        if place.worker is not None:
            place.worker.end(self.engine)

    @property
    def url(self) -> str:
        """Where the API is, whichever process serves it."""
        return f"http://127.0.0.1:{self.port}"

    def start_api(self) -> None:
        """Start the API on its port."""
        self.api_starts += 1
        log = self.folder / f"api{self.api_starts}.log"
        storage = (self.folder / "storage").as_uri()
        self.server = Server(log, self.postgres.url, self.valkey.url, port=str(self.port), storage_url=storage)

    def client(self) -> httpx.Client:
        """A client of the API."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def one(self, chance: random.Random) -> Place:
        """Any of the workers."""
        return chance.choice(self.places)

    def mend(self) -> list[str]:
        """Start again what ended without being told to, as a supervisor would; what that was."""
        found = []
        for place in self.places:
            if not place.alive and not place.away:
                found.append(f"worker ended with {place.process.returncode}")
                place.start()
        return found

    def drained(self, within_s: float) -> int:
        """Wait until no job is left that has not ended; how many are, at the end."""
        until = time.monotonic() + within_s
        while (left := self.table.unfinished()) and time.monotonic() < until:
            self.mend()
            time.sleep(0.5)
        return left

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Ask the database."""
        with self.table.engine.connect() as connection:
            done = connection.execute(text(statement), values)
            return list(done.all()) if done.returns_rows else []

    def containers(self) -> int:
        """Containers of all workers."""
        return sum(len(containers(self.engine, place.instance)) for place in self.places)

    def stop_workers(self) -> list[int]:
        """End the workers as an operator does, once they are up; their exit statuses."""
        for place in self.places:
            if place.worker is not None and place.alive:
                ready(self.table, place.worker)
        for place in self.places:
            place.away = True
            place.signal(signal.SIGCONT)
        return [place.worker.stop() for place in self.places if place.worker is not None]
