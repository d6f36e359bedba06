"""A whole service that faults are injected into: every part a process, every line between them a proxy.

API, workers, sender of webhooks, PostgreSQL, Valkey, a scripted model and a receiver, all on loopback. Leases
are short, so that what takes half a minute in earnest takes seconds here.
"""

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
import psycopg
from docker.utils import kwargs_from_env
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from api import keys
from domain.quotas import Scope
from retort.embedded import Postgres, Valkey
from tests.conftest import migrate
from tests.faults.dockerd import Dockerd
from tests.faults.earlier import unpacked
from tests.faults.host import Host, broker_url, database_url
from tests.faults.proxy import Loop, Proxy
from tests.harness import (
    ROOT,
    Broker,
    Jobs,
    Worker,
    containers,
    end_all,
    eventually,
    instance_name,
    ready,
    sweep,
)
from tests.integration.api.harness import Server
from tests.models import scripted_process
from tests.receivers import Receiver, receiving, sending
from tests.stalling import FILE, standing_still
from tests.tasks import KEY, gateway_environment

RECEIVER = "127.0.0.9"
HOOKS = {"webhook_networks": f"{RECEIVER}/32", "webhook_http": "true"}
SCALED = {
    "webhook_timeout_s": "2",
    "webhook_retry_s": "0.1",
    "webhook_retry_most_s": "0.5",
    "webhook_poll_s": "0.1",
}


class Stack:
    """See the module. Made by `raised`."""

    def __init__(self, folder: Path, engine: docker.DockerClient, own: Dockerd | None = None) -> None:
        self.folder = folder
        self.docker = engine if own is None else own.client
        self.own = own
        self.workers: list[Worker] = []  # every process that there was
        self.postgres = Postgres(folder / "postgres", folder / "run")
        self.valkey = Valkey(folder / "valkey", folder / "run")
        self.postgres_socket = folder / "run" / ".s.PGSQL.5432"
        base = kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock"
        self.engine_socket = Path(str(base).removeprefix("unix://")) if own is None else own.socket
        self.gateway_key = folder / "gateway.key"
        self.model_environment: dict[str, str] = {}
        self._closing = ExitStack()
        self._loop = Loop()
        self._closing.callback(self._loop.close)
        self._stall = folder / "stall"  # while it is there, the API may be held up
        self.last = 0  # the number that was given out last

    def proxy(self, target: Path | int, at: Path | None = None) -> Proxy:
        """One that ends with the stack."""
        made = Proxy(self._loop, target, at)
        self._closing.callback(made.close)
        return made

    def number(self) -> int:
        """One that no other job here prints."""
        self.last += 1
        return self.last

    def raise_up(self, hosts: int) -> None:
        """Start everything and wait until it is ready."""
        closing = self._closing
        self.postgres.start()
        closing.callback(self.postgres.stop)
        self.valkey.start()
        closing.callback(self.valkey.stop)
        migrate(self.postgres.url)
        self.table = patient(self.postgres.url)
        closing.callback(self.table.close)
        self.broker = Broker(self.valkey.url)
        closing.callback(self.broker.close)
        model = closing.enter_context(scripted_process(self.folder / "model.log"))
        self.model_url = model
        self.model = self.proxy(int(httpx.URL(model).port or 0))
        address = f"http://127.0.0.1:{self.model.port}{httpx.URL(model).path}"
        self.gateway_key.write_text(KEY)
        self.model_environment = gateway_environment(address, key_file=self.gateway_key)
        self.receiver: Receiver = closing.enter_context(receiving(RECEIVER))
        self.webhook_key = secrets.token_urlsafe(32)
        self.api_database = self.proxy(self.postgres_socket)
        self.api_broker = self.proxy(self.valkey.socket)
        self.hooks_database = self.proxy(self.postgres_socket)
        self.hooks_fuses = self.folder / "hooks-fuses"
        self.hooks_fuses.mkdir()
        self._bystander()
        self.server: Server | None = None
        closing.callback(self._end_server)
        self._client: httpx.Client | None = None
        self.serve()
        self.hooks = ExitStack()
        closing.callback(self._end_hooks)
        self.send_hooks()
        with self.table.engine.connect() as connection:
            key = keys.create(connection, "caller", scopes=list(Scope))
        assert key is not None
        self.key = key
        self.connect()
        made = self.client.post("/v1/webhooks", json={"url": self.receiver.url, "events": ["job"]})
        assert made.status_code == 201, made.text
        self.hosts = [Host(self, f"host{number}") for number in range(hosts)]
        for host in self.hosts:
            host.start(wait=False)
        for host in self.hosts:
            assert host.worker is not None
            ready(self.table, host.worker)

    def _bystander(self) -> None:
        """A container of an instance that is none of ours, which nobody may touch."""
        self.other = instance_name()
        image = self.docker.api.images()[0]["Id"]
        labels = {"retort.instance": self.other, "retort.worker": "another"}
        self.bystander = self.docker.api.create_container(image, ["true"], labels=labels)["Id"]
        self._closing.callback(sweep, self.docker, self.other)

    def untouched(self) -> bool:
        """Whether it still is as it was."""
        return containers(self.docker, self.other) == [self.bystander]

    # --- the API ----------------------------------------------------------------------------------

    def serve(self, source: Path = ROOT) -> None:
        """Start the API."""
        urls = (database_url(self.api_database.port), broker_url(self.api_broker.port))
        storage = (self.folder / "storage").as_uri()
        log = self.folder / f"api{self.number()}.log"
        self.server = Server(
            log,
            *urls,
            program="tests.stalling",
            source=source,
            metrics_port="0",
            storage_url=storage,
            webhook_key=self.webhook_key,
            max_queued="200000",
            **{FILE: str(self._stall), **HOOKS},
        )
        if self._client is not None:
            self.connect()

    def connect(self) -> None:
        """A client of the API that is there now."""
        assert self.server is not None
        if self._client is not None:
            self._client.close()
        headers = {"Authorization": f"Bearer {self.key}"}
        self._client = httpx.Client(base_url=self.server.url, headers=headers, timeout=60, trust_env=False)

    @property
    def client(self) -> httpx.Client:
        """Talks to the API with the caller's key."""
        assert self._client is not None
        return self._client

    def standing_still(self, *, computing: bool) -> AbstractContextManager[None]:
        """A block in which its event loop does not move."""
        assert self.server is not None
        return standing_still(self.server, self._stall, computing=computing)

    def kill_api(self) -> None:
        """End the API as a crash does."""
        assert self.server is not None
        self.server.process.kill()
        self.server.process.wait(30)

    def _end_server(self) -> None:
        if self._client is not None:
            self._client.close()
        if self.server is not None:
            self.server.stop()

    # --- the sender of webhooks -------------------------------------------------------------------

    def send_hooks(self) -> None:
        """Start the process that sends webhooks."""
        fuses = {"fault_fuses": str(self.hooks_fuses), "test_mode": "true"}
        url = database_url(self.hooks_database.port)
        started = sending(self.folder / "hooks.log", url, self.webhook_key, **HOOKS, **SCALED, **fuses)
        self.hooks_process = self.hooks.enter_context(started)

    def _end_hooks(self) -> None:
        with suppress(ProcessLookupError):
            self.hooks.close()

    # --- stores -----------------------------------------------------------------------------------

    def crash_postgres(self) -> None:
        """End it without a word, and all that belongs to it."""
        assert self.postgres.process is not None
        self.postgres.process.kill()
        self.postgres.process.wait(30)

    def crash_valkey(self) -> None:
        """The same."""
        assert self.valkey.process is not None
        self.valkey.process.kill()
        self.valkey.process.wait(30)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Ask the database directly."""
        with self.table.engine.connect() as connection:
            done = connection.exec_driver_sql(statement, values or None)
            return list(done.all()) if done.returns_rows else []

    def patiently(self, ask: Callable[[], bool]) -> bool:
        """The answer, or False while the database is away."""
        try:
            return ask()
        except (DBAPIError, psycopg.Error):
            return False

    @cached_property
    def apart_url(self) -> str:
        """A database beside the service's own, with the same tables, which no worker looks at."""
        self.sql("CREATE DATABASE apart")
        url = self.postgres.url.replace("/retort?", "/apart?")
        migrate(url)
        return url

    @cached_property
    def apart(self) -> Jobs:
        """The tables in it."""
        table = patient(self.apart_url)
        self._closing.callback(table.close)
        return table

    @cached_property
    def earlier(self) -> Path:
        """The source of an earlier version, whose image is built.

        Raises:
            NoEarlier: there is none here.
        """
        return unpacked(self.folder / "earlier")

    def logs(self) -> str:
        """All that anything here has logged."""
        paths = [path for path in self.folder.rglob("*log*") if path.is_file()]
        return "".join(path.read_text(errors="replace") for path in paths)

    # --- health -----------------------------------------------------------------------------------

    def heal(self) -> None:
        """Whatever the last fault left: everything runs again, and nothing is armed."""
        for fuse in self.hooks_fuses.iterdir():
            fuse.unlink(missing_ok=True)
        if not self.postgres.alive():
            self.postgres.start()
        if not self.valkey.alive():
            self.valkey.start()
        assert self.server is not None
        if self.server.process.poll() is not None:
            self.serve()
        if self.hooks_process.poll() is not None:
            self._end_hooks()
            self.send_hooks()
        for host in self.hosts:
            host.disarm()
            if host.alive:
                host.signal(signal.SIGCONT)
            else:
                host.start(wait=False)
        for host in self.hosts:
            assert host.worker is not None
            ready(self.table, host.worker)

    def settle(self) -> None:
        """Wait until no worker has a container that it does not know of; they look every half minute."""

        def settled() -> bool:
            for host in self.hosts:
                row = self.table.worker(host.instance)
                pool = {} if row is None else row.facts["pool"]
                known = sum(pool.get(name, 0) for name in ("idle", "used", "busy", "starting"))
                if len(host.containers()) != known or not known:
                    return False
            return True

        def why() -> str:
            found = {host.name: len(host.containers()) for host in self.hosts}
            return f"no container is left that nobody knows: {found}"

        eventually(settled, why, 60)

    def end(self) -> list[str]:
        """End everything politely; what is wrong, one sentence each."""
        wrong = []
        for host in self.hosts:
            if host.alive:
                host.signal(signal.SIGCONT)
                host.disarm()
                assert host.worker is not None
                host.worker.terminate()
        for host in self.hosts:
            if host.worker is not None and (code := host.stop()) and not host.worker.process.returncode < 0:
                wrong.append(f"{host.name} ended with {code}")
            if left := host.containers():
                wrong.append(f"{host.name} left {len(left)} containers")
        if not self.untouched():
            wrong.append("another instance's container was touched")
        return wrong

    def strike(self) -> None:
        """End all that is left, whatever became of it."""
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGCONT) if worker.process.poll() is None else None
        end_all(self.docker, self.workers)
        self._closing.close()


@contextmanager
def raised(
    folder: Path, engine: docker.DockerClient, hosts: int = 2, own: Dockerd | None = None
) -> Iterator[Stack]:
    """A stack, struck whatever happens; its sandboxes are in the machine's engine, or in one of its own."""
    stack = Stack(folder, engine, own)
    try:
        stack.raise_up(hosts)
        yield stack
    finally:
        stack.strike()


def patient(url: str) -> Jobs:
    """Tables in a database whose connections may have died since they were used."""
    table = Jobs(url)
    table.engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    return table


def gone(stack: Stack, ids: set[str], within_s: float = 60) -> float:
    """Wait until none of these containers exists; how long that took, in seconds."""
    began = time.monotonic()

    def look() -> bool:
        found = stack.docker.api.containers(all=True, filters={"label": "retort.instance"})
        return not ids & {each["Id"] for each in found}

    eventually(look, lambda: f"{len(ids)} containers of a worker that was lost are gone", within_s)
    return time.monotonic() - began
