"""The stage: a whole service of its own, two callers, canaries on the host."""

import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
from sqlalchemy import func, select

from api import keys
from domain.quotas import USUAL_SCOPES, Scope
from domain.tables.caller import callers
from domain.tables.job import jobs
from retort.embedded import Postgres, Valkey
from tests.conftest import migrate
from tests.harness import Jobs, Worker, containers, eventually, instance_name, ready
from tests.hostile.canaries import Canaries
from tests.hostile.contract import Contract
from tests.hostile.entries import Document, Result
from tests.integration.api.harness import Server
from tests.models import scripted_process
from tests.receivers import sending

#: Cells kept warm of each language, and jobs at a time. The pool neither grows nor shrinks, so that what is
#: left can be counted.
WARM = 2
LANGUAGES = ("python", "javascript", "bash", "rust")
JOBS = 6

#: What the model says; its gateway is given up early, and a failing one is not waited for.
SCRIPTS = Path(__file__).parent / "models.toml"
GATEWAY = """
[gateways.scripted]
url = "{url}"
key_env = "HOSTILE_GATEWAY_KEY"
models = ["gpt-4.1"]
deadlines = {{ connect_s = 8, first_byte_s = 8, idle_s = 8, total_s = 10 }}
most_bytes = 1048576
"""
IMPATIENT = {
    "RETORT_MODEL_RETRIES": "1",
    "RETORT_MODEL_RETRY_BASE_S": "0.05",
    "RETORT_MODEL_RETRY_JITTER_S": "0",
    "RETORT_MODEL_BREAKER_THRESHOLD": "1000",
}
REFINE = "queue_s = 0.001  # a task does not wait for another model\n"

#: The only address inside that webhooks may lead to, and time as the stage's sender scales it.
RECEIVER_HOST = "127.0.0.8"
HOOKS = {"webhook_networks": f"{RECEIVER_HOST}/32", "webhook_http": "true"}
SCALED = {
    "webhook_timeout_s": "1",
    "webhook_retry_s": "0.05",
    "webhook_retry_most_s": "0.5",
    "webhook_give_up_s": "3",
    "webhook_poll_s": "0.1",
}

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
        self._closing = ExitStack()
        self.model_key = f"hk_{secrets.token_urlsafe(32)}"
        self.webhook_key = secrets.token_urlsafe(32)

    def raise_up(self) -> None:
        """Start everything and wait until it is warm."""
        self.postgres.start()
        self.valkey.start()
        migrate(self.postgres.url)
        self.table = Jobs(self.postgres.url)
        environment = {"TMPDIR": str(self.temporary), "CANARY": self.canaries.secret}
        environment["RETORT_STORAGE_URL"] = (self.folder / "storage").as_uri()
        urls = (self.postgres.url, self.valkey.url)
        self.server = Server(
            self.folder / "api.log",
            *urls,
            runtime=self.tier,
            refusals_per_s="0.5",
            webhook_key=self.webhook_key,
            **(HOOKS | environment),
        )
        self._closing.enter_context(
            sending(self.folder / "hooks.log", self.postgres.url, self.webhook_key, **HOOKS, **SCALED)
        )
        self.worker = Worker(
            self.folder / "worker.log",
            *urls,
            instance=self.instance,
            environment={**environment, **self._model()},
            warm_least=str(WARM),
            warm_languages=",".join(LANGUAGES),
            warm_most=str(WARM),
            jobs=str(JOBS),
            runtimes=self.tier,
        )
        self.contract = Contract(httpx.get(f"{self.server.url}/openapi.json").json())
        self.mallory_key, self.alice_key = self.new_key("mallory"), self.new_key("alice")
        self.mallory = self.client(self.mallory_key)
        self.alice = self.client(self.alice_key)
        ready(self.table, self.worker)
        # Threads and connections are made when first needed; afterwards none may be added.
        for job in (
            {"code": "import time; time.sleep(0.5)"},
            {"code": "open('left', 'w').write('x')", "files": [{"name": "a", "content": "x"}]},
            {"task": "[scripted:right] greet", "model": "gpt-4.1"},
        ):
            for done in [self.submit_soon(self.alice, job) for _ in range(JOBS)]:
                done.result()

    def _model(self) -> dict[str, str]:
        """Start the scripted model; what tells the worker of it."""
        options = ("--scripts", str(SCRIPTS))
        url = self._closing.enter_context(scripted_process(self.folder / "model.log", *options))
        self.model_url = url.removesuffix("/v1")
        gateways, refine = self.folder / "gateways.toml", self.folder / "refine.toml"
        gateways.write_text(GATEWAY.format(url=url))
        refine.write_text(REFINE)
        files = {"RETORT_GATEWAYS": str(gateways), "RETORT_REFINE": str(refine)}
        return {**files, **IMPATIENT, "HOSTILE_GATEWAY_KEY": self.model_key}

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
        self._closing.close()
        self.valkey.stop()
        self.postgres.stop()
        self.canaries.close()

    # --- callers ----------------------------------------------------------------------------------

    def new_key(self, caller: str, scopes: Sequence[Scope] = USUAL_SCOPES) -> str:
        """A key of a caller, who is new or not."""
        with self.table.engine.connect() as connection:
            key = keys.create(connection, caller, scopes=scopes)
        assert key is not None
        return key

    def client(self, key: str | None, address: str = "127.0.0.1") -> httpx.Client:
        """A client at an address of this host, whose every answer is judged."""
        client = httpx.Client(
            transport=httpx.HTTPTransport(local_address=address),
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
        return self.end_of(client, answer.json())

    def end_of(self, client: httpx.Client, document: Document) -> Result:
        """A job when it has ended."""
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

    def asked(self) -> int:
        """How many questions the model got."""
        return int(httpx.get(f"{self.model_url}/scripted/seen", trust_env=False).json()["requests"])

    def stored(self, caller: str, *states: str) -> int:
        """How many jobs of a caller there are, in these states or in any."""
        query = select(func.count()).select_from(jobs).join(callers).where(callers.c.name == caller)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self.table.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def logs(self) -> str:
        """All that API and worker have logged."""
        names = ("api.log", "worker.log", "hooks.log")
        return "".join((self.folder / name).read_text() for name in names)


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
