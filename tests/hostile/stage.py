"""The stage: a whole service of its own, two callers, canaries on the host."""

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
from sqlalchemy import func, select

from api import keys
from domain.tables import callers, jobs
from retort.embedded import Postgres, Valkey
from tests.conftest import migrate
from tests.harness import Jobs, Worker, containers, eventually, instance_name, ready
from tests.hostile.canaries import Canaries
from tests.hostile.contract import Contract
from tests.hostile.entries import Document, Result
from tests.integration.api.harness import Server

#: Cells kept warm, and jobs at a time. The pool neither grows nor shrinks, so that what is left can be counted.
WARM = 2
JOBS = 6

FINAL = frozenset({"finished", "cancelled", "broken"})


class Stage:
    """See the module. Made by `raised`."""

    def __init__(self, folder: Path, engine: docker.DockerClient, tier: str) -> None:
        self.tier = tier
        self.folder = folder
        self.engine = engine
        self.instance = instance_name()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.canaries = Canaries(folder, engine)
        self.postgres = Postgres(folder / "postgres", folder / "run")
        self.valkey = Valkey(folder / "valkey", folder / "run")
        self.kept_until: list[float] = []  # when the pool gives up used cells that it may keep now
        self._clients: list[httpx.Client] = []
        self._threads = ThreadPoolExecutor(16, "client")

    def raise_up(self) -> None:
        """Start everything and wait until it is warm."""
        self.postgres.start()
        self.valkey.start()
        migrate(self.postgres.url)
        self.table = Jobs(self.postgres.url)
        environment = {"TMPDIR": str(self.temporary), "CANARY": self.canaries.secret}
        urls = (self.postgres.url, self.valkey.url)
        self.server = Server(self.folder / "api.log", *urls, **environment)
        self.worker = Worker(
            self.folder / "worker.log",
            *urls,
            instance=self.instance,
            environment=environment,
            warm_least=str(WARM),
            warm_most=str(WARM),
            jobs=str(JOBS),
            runtime=self.tier,
        )
        self.contract = Contract(httpx.get(f"{self.server.url}/openapi.json").json())
        self.mallory_key, self.alice_key = self.new_key("mallory"), self.new_key("alice")
        self.mallory = self.client(self.mallory_key)
        self.alice = self.client(self.alice_key)
        ready(self.table, self.worker)
        # Threads and connections are made when first needed; afterwards none may be added.
        for _ in range(2):
            for job in [
                self.submit_soon(self.alice, {"code": "import time; time.sleep(0.5)"}) for _ in range(JOBS)
            ]:
                job.result()

    def strike(self) -> None:
        """End everything; nothing of it may be left."""
        for client in self._clients:
            client.close()
        self._threads.shutdown()
        if hasattr(self, "worker"):
            self.worker.stop()
            self.worker.end(self.engine)
        if hasattr(self, "server"):
            self.server.stop()
        if hasattr(self, "table"):
            self.table.close()
        self.valkey.stop()
        self.postgres.stop()
        self.canaries.close()

    # --- callers ----------------------------------------------------------------------------------

    def new_key(self, caller: str) -> str:
        """A key of a caller, who is new or not."""
        with self.table.engine.connect() as connection:
            key = keys.create(connection, caller)
        assert key is not None
        return key

    def client(self, key: str | None) -> httpx.Client:
        """A client whose every answer is judged."""
        client = httpx.Client(
            base_url=self.server.url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            event_hooks={"response": [self.contract.check]},
            timeout=90,
        )
        self._clients.append(client)
        return client

    # --- jobs -------------------------------------------------------------------------------------

    def submit(self, client: httpx.Client, job: Document) -> Result:
        """Submit a job and wait for its end, whatever that is."""
        answer = client.post("/v1/jobs", json=job, headers={"Prefer": "wait=60"})
        assert answer.status_code in {200, 202}, answer.text
        document: Document = answer.json()
        until = time.monotonic() + 120
        while document["state"] not in FINAL:
            assert time.monotonic() < until, f"the job does not end: {document}"
            document = client.get(document["links"]["self"], params={"wait": 30}).json()
        return Result(document)

    def submit_soon(self, client: httpx.Client, job: Document) -> "Future[Result]":
        """The same in a thread."""
        return self._threads.submit(self.submit, client, job)

    def run(self, code: str, client: httpx.Client | None = None, **more: Any) -> Result:
        """Run a program of the hostile caller, or of another."""
        return self.submit(client or self.mallory, {"code": code, **more})

    def neighbour(self) -> "Future[None]":
        """A job of another caller that must end right."""
        number = secrets.randbelow(10**9)
        job = {"code": "n = int(input())\nprint(n * n)", "stdin": f"{number}\n"}
        done: Future[None] = self._threads.submit(self._right, job, f"{number * number}\n")
        return done

    def _right(self, job: Document, stdout: str) -> None:
        result = self.submit(self.alice, job)
        got = (result.job["verdict"], result.job["stdout"], result.job["stderr"])
        assert got == ("ok", stdout, ""), f"the neighbour's job went wrong: {result.job}"

    # --- what is there ----------------------------------------------------------------------------

    def containers(self) -> list[str]:
        """Every container of the worker."""
        return containers(self.engine, self.instance)

    def stored(self, caller: str, *states: str) -> int:
        """How many jobs of a caller there are, in these states or in any."""
        query = select(func.count()).select_from(jobs).join(callers).where(callers.c.name == caller)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self.table.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def logs(self) -> str:
        """All that API and worker have logged."""
        return self.server.log.read_text() + self.worker.log.read_text()


@contextmanager
def raised(folder: Path, engine: docker.DockerClient, tier: str) -> Iterator[Stage]:
    """A stage, struck whatever happens; afterwards none of its containers may exist."""
    stage = Stage(folder, engine, tier)
    try:
        stage.raise_up()
        yield stage
    finally:
        stage.strike()
    eventually(lambda: not stage.containers(), "the worker removes all of its containers")
