"""One API and one worker with one storage, for the tests of each module."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from sqlalchemy import create_engine

from api import keys
from tests.conftest import Services, empty
from tests.harness import Jobs, Worker, instance_name, ready
from tests.integration.api.harness import Contract, Server


class House:
    """A client of the service, and the tables and the storage behind it."""

    def __init__(self, server: Server, worker: Worker, table: Jobs, storage: Path) -> None:
        self.server = server
        self.worker = worker
        self.table = table
        self.storage = storage
        self.engine = create_engine(table.engine.url)
        self.contract = Contract(httpx.get(f"{server.url}/openapi.json").json())
        self.client = self.connect()

    def connect(self) -> httpx.Client:
        """A client with the key of a new caller."""
        with self.engine.begin() as connection:
            key = keys.create(connection, secrets.token_hex(8))
        return httpx.Client(base_url=self.server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def run(self, code: str, query: str = "", **body: Any) -> dict[str, Any]:
        """A job, run to its end."""
        answer = self.client.post(
            f"/v1/jobs{query}", json={"code": code, **body}, headers={"Prefer": "wait=50"}
        )
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        assert job["state"] == "finished", job
        return job

    def fetch(self, job: dict[str, Any], name: str) -> bytes:
        """An artifact, by its own link."""
        (link,) = [a["links"]["self"] for a in job["artifacts"] if a["name"] == name]
        answer = self.client.get(link)
        assert answer.status_code == 200, answer.text
        return answer.content

    def stored(self, kind: str) -> set[str]:
        """The ids that the storage holds."""
        folder = self.storage / kind
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture(scope="module")
def house(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """The service."""
    folder = tmp_path_factory.mktemp("files")
    storage = folder / "storage"
    empty(services)
    url = storage.as_uri()
    urls = (services.database_url, services.redis_url)
    server = Server(
        folder / "api.log", *urls, max_file_bytes=str(4 << 20), max_stored_bytes=str(10 << 20), storage_url=url
    )
    worker = Worker(folder / "worker.log", *urls, instance=instance_name(), storage_url=url)
    table = Jobs(services.database_url)
    try:
        ready(table, worker)
        yield House(server, worker, table, storage)
    finally:
        print(worker.log.read_text(), server.log.read_text())
        table.close()
        server.stop()
        worker.stop()
        worker.end(engine)
