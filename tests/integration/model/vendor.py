"""A model vendor over real sockets that does as a test says, and keeps a strict watch on its own limits."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from domain.catalogue import Bucket, load_catalogue
from tests.models import KEY
from worker.model.gateways import Deadlines, Gateway, Gateways, Served


@dataclass(frozen=True)
class Reply:
    """What is answered: after `delay_s`, with this status; 200 says `text` and counts `output` tokens."""

    status: int = 200
    text: str = "print(42)"
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    output: int = 10
    message: str = "as the test wants it"


@dataclass(frozen=True)
class Arrival:
    """A request: when, by the machine's clock, for which model, and what it got; tokens it used."""

    at: float
    model: str
    body: dict[str, Any]
    status: int = 0
    tokens: int = 0


Behaviour = Callable[[int, Arrival], Reply]


class Vendor:
    """Speaks chat completions. `behave` gets the number of the request, from 0, and the request."""

    def __init__(self, behave: Behaviour | None = None) -> None:
        self.behave: Behaviour = behave or (lambda _number, _arrival: Reply())
        self.arrivals: list[Arrival] = []
        self.under_way = 0
        self.most_under_way = 0
        self.url = ""

    @property
    def statuses(self) -> list[int]:
        """What was answered so far, in order of arrival."""
        return [each.status for each in self.arrivals]

    async def _answer(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        arrival = Arrival(time.monotonic(), body["model"], body)
        number = len(self.arrivals)
        reply = self.behave(number, arrival)
        question = sum(len(each["content"]) // 4 for each in body["messages"])
        used = question + reply.output if reply.status == 200 else 0
        self.arrivals.append(Arrival(arrival.at, arrival.model, body, reply.status, used))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(reply.delay_s)
        finally:
            self.under_way -= 1
        if reply.status != 200:
            error = {"error": {"message": reply.message, "type": "test", "code": None}}
            return web.json_response(error, status=reply.status, headers=reply.headers)
        said = {"role": "assistant", "content": reply.text}
        return web.json_response(
            {
                "id": "x", "object": "chat.completion", "created": 1, "model": f"{arrival.model}-v1",
                "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": question, "completion_tokens": reply.output, "total_tokens": used,
                },
            },
        )  # fmt: skip

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        return app


@contextmanager
def serving(vendor: Vendor) -> Iterator[Vendor]:
    """Serve on a port of the loopback, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="vendor")
    thread.start()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(
            vendor.app(), handle_signals=False, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield vendor
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def gateway(vendor: Vendor, *models: str, name: str = "vendor", **values: Any) -> Gateway:
    """A gateway that serves these models there, without limits unless some are given."""
    usual: dict[str, Any] = {
        "models": {model: Served(model, model) for model in models},
        "deadlines": Deadlines(connect_s=5, first_byte_s=20, idle_s=20, total_s=30),
        "model_limits": {model: Bucket("none") for model in models},
        "stream": False,
    }
    return Gateway(name, vendor.url, "openai", KEY, **{**usual, **values})


def gateways(*each: Gateway) -> Gateways:
    """These, with our catalogue."""
    catalogue = load_catalogue()
    return Gateways(catalogue.extended([name for one in each for name in one.models]), each)
