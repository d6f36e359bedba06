"""The service under compose, as tests reach it: one project of its own, on images built here."""

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.models.containers import Container

from scripts import compose
from tests.harness import ROOT, eventually, sweep

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"


class Composed:
    """A project of compose."""

    def __init__(self, engine: docker.DockerClient, folder: Path, **settings: str) -> None:
        self.engine = engine
        self.project = f"retort-test-{secrets.token_hex(4)}"
        self.folder = folder
        self.workers: set[str] = set()  # host names of every worker that there ever was
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.gateway_key = f"gk-{secrets.token_hex(20)}"
        values = compose.settings(folder / "state", print, local=True)
        (folder / "state" / "gateways" / "key").write_text(self.gateway_key)
        self.passwords = [(folder / "state" / "secrets" / name).read_text() for name in compose.SECRETS]
        values |= {"RETORT_PORT": str(self.port), **settings}
        self._env_file = folder / "env"
        self._env_file.write_text(compose.merged("", values))
        files = (ROOT / "docker-compose.yml", Path(__file__).with_name("compose.scripted.yml"))
        self._words = [
            *compose.command(print),
            f"--project-name={self.project}",
            f"--env-file={self._env_file}",
            *(f"--file={file}" for file in files),
        ]

    def call(self, *words: str) -> str:
        """Run compose to its end; what it printed."""
        # The shell's settings would come before the file's.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RETORT_", "COMPOSE"))
        }
        done = subprocess.run(
            [*self._words, *words],
            cwd=self.folder,
            env=kept | {"COMPOSE_PROFILES": "models"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def up(self, workers: int) -> None:
        """Start everything; return when jobs would run, tasks included."""
        self.call("up", "--detach", "--no-build", f"--scale=sandbox-worker={workers}")
        self.workers |= {instance(each) for each in self.of("sandbox-worker")}

        def healthy() -> bool:
            running = [each for each in self.containers() if each.status != "exited"]
            found = [each.attrs["State"].get("Health", {}).get("Status", "healthy") for each in running]
            return set(found) == {"healthy"}

        try:
            eventually(healthy, "all containers are healthy", within_s=120)
        except AssertionError:
            print(self.logs())
            raise

    def down(self) -> None:
        """End everything, and forget the data."""
        self.call("down", "--volumes", "--remove-orphans")

    def containers(self) -> list[Container]:
        """All of the project, running or not, as the engine knows them now."""
        return list(self.engine.containers.list(all=True, filters={"label": f"{PROJECT}={self.project}"}))

    def of(self, service: str) -> list[Container]:
        """Those of one service."""
        return [each for each in self.containers() if each.labels[SERVICE] == service]

    def left(self) -> list[str]:
        """What there is of the project and of its workers' sandboxes."""
        mine = {"label": f"{PROJECT}={self.project}"}
        found: list[Any] = [*self.engine.networks.list(filters=mine), *self.engine.volumes.list(filters=mine)]
        cells = [cell for name in self.workers for cell in self.cells(name)]
        return [str(each.name) for each in [*self.containers(), *found]] + cells

    def cells(self, worker: str) -> dict[str, str]:
        """The sandboxes of a worker, and the state of each."""
        filters = {"label": f"retort.instance={worker}"}
        return {cell["Id"]: cell["State"] for cell in self.engine.api.containers(all=True, filters=filters)}

    def query(self, sql: str) -> list[list[str]]:
        """Ask the database; its rows."""
        (postgres,) = self.of("postgres")
        words = ["psql", "-h", "/var/run/postgresql", "-U", "retort", "-d", "retort", "-XAtF\t", "-c", sql]
        return [line.split("\t") for line in _run(postgres, words).splitlines()]

    def inside(self, container: Container, source: str) -> Any:
        """What a Python program prints as JSON inside a container of ours."""
        return json.loads(_run(container, ["python", "-I", "-c", source]))

    def client(self) -> httpx.Client:
        """A client with a key of its own."""
        key = self.call("exec", "-T", "api", "python", "-m", "api.keys", "create", "tests").strip()
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}/v1/",
            headers={"Authorization": f"Bearer {key}"},
            timeout=90,
        )

    def logs(self) -> str:
        """The end of what every container wrote, for whoever reads a failed test."""
        return "\n".join(f"--- {each.name}\n{each.logs(tail=15).decode()}" for each in self.containers())

    def end(self) -> None:
        """Leave nothing, whatever became of the test."""
        for each in self.containers():
            each.remove(force=True, v=True)
        self.down()
        for name in self.workers:
            sweep(self.engine, name)


def _run(container: Container, words: list[str]) -> str:
    code, output = container.exec_run(words)
    assert isinstance(output, bytes)
    assert code == 0, output
    return output.decode()


def instance(worker: Container) -> str:
    """The name under which a worker in a container labels its sandboxes."""
    return str(worker.attrs["Config"]["Hostname"])


@contextmanager
def composed(
    engine: docker.DockerClient, folder: Path, settings: Mapping[str, str], workers: int
) -> Iterator[Composed]:
    """A project that is up."""
    made = Composed(engine, folder, **settings)
    try:
        made.up(workers)
        yield made
    finally:
        made.end()
