"""What tests of the model front end share: gateways, and a scripted model as a process of its own."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from retort.scripted.limits import Limits
from retort.scripted.script import load_scripts
from retort.scripted.server import Server, serving
from tests.harness import eventually
from worker.model.client import GatewayClient
from worker.model.gateways import Deadlines, Gateway, Served
from worker.model.keys import Key
from worker.model.types import Message, ModelAnswer, ModelCall

ROOT = Path(__file__).parents[1]
MODEL = "gpt-4.1"
KEY = Key("hs_0123456789abcdefghijklmnopqrstuvwxyz")


def a_gateway(url: str, dialect: str = "openai", **values: Any) -> Gateway:
    """A gateway that serves one model, with short deadlines unless others are given."""
    usual: dict[str, Any] = {
        "name": "test",
        "url": url,
        "dialect": dialect,
        "key": KEY,
        "models": {MODEL: Served(MODEL, MODEL)},
        "deadlines": Deadlines(connect_s=2, first_byte_s=20, idle_s=20, total_s=30),
    }
    return Gateway(**{**usual, **values})


def a_call(task: str, **values: Any) -> ModelCall:
    """A question."""
    return ModelCall(**{"model": MODEL, "messages": (Message("user", task),), **values})


async def ask_async(gateway: Gateway, call: ModelCall | str, deadline_s: float = 60) -> ModelAnswer:
    """Ask once, with a client of its own."""
    call = a_call(call) if isinstance(call, str) else call
    async with GatewayClient() as client:
        return await client.ask(gateway, call, request_id=str(uuid4()), deadline_s=deadline_s)


def ask(gateway: Gateway, call: ModelCall | str, deadline_s: float = 60) -> ModelAnswer:
    """The same from a test that is not async."""
    return asyncio.run(ask_async(gateway, call, deadline_s))


@asynccontextmanager
async def scripted(limits: Limits | None = None, key: str | None = None, *files: Path) -> AsyncIterator[str]:
    """A scripted model in this event loop; its base URL."""
    async with serving(Server(load_scripts(*files), limits, key)) as url:
        yield url


@contextmanager
def scripted_process(log: Path, *options: str) -> Iterator[str]:
    """A scripted model as a process of its own; its base URL."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "retort.scripted", "--port", "0", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "http://" in log.read_text() or process.poll() is not None, "it serves")
        found = re.search(r"http://\S+", log.read_text())
        assert found, log.read_text()
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
