"""The whole service for a crowd of tasks: API, several workers of each kind, and the strict gateway."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx

from api import keys
from tests.harness import ROOT, Jobs, Worker, eventually, instance_name, ready
from tests.integration.api.harness import Server
from tests.models import KEY, MODEL

#: A minute is 0.6 s, and everything that a gateway counts in minutes is a hundred times as fast too.
HUNDREDFOLD = {
    "CALL_TIMEOUT_S": "300",
    "WINDOW_S": "0.6",
    "ADAPTIVE_WINDOW_S": "0.01",
    "CALLER_WINDOW_S": "0.01",
    "RETRY_BASE_S": "0.01",
    "RETRY_MOST_S": "0.3",
    "RETRY_JITTER_S": "0.01",
    "RETRY_AFTER_MOST_S": "1.2",
    "BREAKER_TIMEOUT_S": "2",
    "TRANSIT_S": "5",
    "POLL_S": "0.01",
    "FLIGHT_POLL_S": "0.01",
    "QUEUE_AFTER_S": "300",
}

#: `burst` is what the gateway calls under way at once.
GATEWAYS = """
[gateways.strict]
url = "{url}"
key_env = "CROWD_KEY"
models = ["{model}"]
stream = false
deadlines = {{ first_byte_s = 300, total_s = 300 }}

[gateways.strict.model_limits."{model}"]
rpm = 60
tpm = 100000
burst = 30
"""

#: Of an answer: what is reserved before it is known.
REFINE = "max_tokens = 1850\nqueue_s = 600\n"

CALLERS = 4


@dataclass(frozen=True)
class Size:
    """How many processes, and what each does at a time."""

    models: int = 2
    model_jobs: int = 64
    sandboxes: int = 2
    sandbox_jobs: int = 4


@dataclass
class Stack:
    """What runs."""

    url: str
    gateway: str
    keys: list[str]
    table: Jobs

    def open(self) -> None:
        """Let the gateway begin to answer."""
        httpx.post(f"{self.gateway}/open", trust_env=False).raise_for_status()

    def findings(self) -> dict[str, Any]:
        """What the gateway made of its requests."""
        answer: dict[str, Any] = httpx.get(f"{self.gateway}/findings", trust_env=False, timeout=60).json()
        return answer


@contextmanager
def strict_gateway(log: Path, expected: int) -> Iterator[str]:
    """The gateway as a process; its address."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.crowd.gateway", "--expected", str(expected)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "http://" in log.read_text() or process.poll() is not None, "the gateway serves")
        found = re.search(r"(http://\S+)/v1", log.read_text())
        assert found, log.read_text()
        yield found[1]
    finally:
        process.kill()
        process.wait(30)


@contextmanager
def raised(
    folder: Path,
    urls: tuple[str, str],
    engine: docker.DockerClient,
    expected: int,
    size: Size,
) -> Iterator[Stack]:
    """Start everything on a migrated database and a broker (`urls`), and wait until it is ready."""
    with ExitStack() as closing:
        gateway = closing.enter_context(strict_gateway(folder / "gateway.log", expected))
        table = Jobs(urls[0])
        closing.callback(table.close)
        with table.engine.connect() as connection:
            made = [keys.create(connection, f"crowd {number}") for number in range(CALLERS)]
        models = _models(folder, gateway)
        started: list[Worker] = []
        for kind, count, jobs in (
            ("model", size.models, {"model_jobs": str(size.model_jobs)}),
            ("sandbox", size.sandboxes, {"jobs": str(size.sandbox_jobs), "warm_most": str(size.sandbox_jobs)}),
        ):
            environment = models if kind == "model" else {}
            for number in range(count):
                log = folder / f"{kind}{number}.log"
                worker = Worker(
                    log, *urls, instance=instance_name(), environment=environment, serves=kind, **jobs
                )
                closing.callback(worker.end, engine)
                started.append(worker)
        server = Server(folder / "api.log", *urls)
        closing.callback(server.stop)
        for worker in started[: size.models]:
            eventually(partial(_asks, table, worker), "a worker asks models")
        for worker in started[size.models :]:
            ready(table, worker)
        yield Stack(server.url, gateway, [key for key in made if key is not None], table)
        for worker in started:
            worker.terminate()
        for worker in started:
            assert worker.stop() == 0, worker.log.read_text()


def _asks(table: Jobs, worker: Worker) -> bool:
    assert worker.process.poll() is None, worker.log.read_text()
    row = table.worker(worker.instance)
    return row is not None and bool(row.ready)


def _models(folder: Path, gateway: str) -> Mapping[str, str]:
    """What tells a worker of the gateway."""
    (folder / "gateways.toml").write_text(GATEWAYS.format(url=f"{gateway}/v1", model=MODEL))
    (folder / "refine.toml").write_text(REFINE)
    return {
        "RETORT_GATEWAYS": str(folder / "gateways.toml"),
        "RETORT_REFINE": str(folder / "refine.toml"),
        "CROWD_KEY": KEY.reveal(),
        **{f"RETORT_MODEL_{name}": value for name, value in HUNDREDFOLD.items()},
    }
