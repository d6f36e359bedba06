"""`python -m tests.crowd.gateway`: a model gateway that answers tasks, has bad moments, and counts everything.

Once told to open, it answers `task N` with a program that prints the square of N; every twentieth task's first
program is wrong. It has two bursts of 429, and an outage that lasts until it is left alone. What it got it
judges itself: `GET /findings`. Requests beyond its limits are answered and counted, so that all are seen.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web

from tests.crowd.judge import OVERLOADED, RATE_LIMITED, Rules, Seen, judge

#: When the bursts of 429 come and how long they are, and when the outage: parts of all requests expected.
BURSTS = ((0.15, 0.015), (0.40, 0.008))
LEAST_IN_A_BURST = 3
OUTAGE = 0.60

#: After so many seconds without a request the outage is over. Shorter than the breaker's time.
QUIET_S = 1.0

RETRY_AFTER_S = 0.2

#: An outage answers slowly, so that no answer to an earlier request comes between; a probe takes long enough
#: for others to be seen beside it.
OUTAGE_DELAY_S = 0.15
PROBE_DELAY_S = 0.25

#: Of these tasks the first program is wrong.
WRONG_EVERY = 20

_TASK = re.compile(r"task (\d+)\b")


class Gateway:
    """Speaks chat completions."""

    def __init__(self, rules: Rules, expected: int) -> None:
        self._rules = rules
        self._seen: list[Seen] = []
        self._open = asyncio.Event()
        self._count = 0
        self._bursts = [
            range(int(start * expected), int(start * expected) + max(LEAST_IN_A_BURST, int(share * expected)))
            for start, share in BURSTS
        ]
        self._outage_from = int(OUTAGE * expected)
        self._failures = 0
        self._last_failure = 0.0
        self._probed = False

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/open", self._begin)
        app.router.add_get("/findings", self._findings)
        return app

    async def _begin(self, _: web.Request) -> web.Response:
        self._open.set()
        return web.Response()

    async def _findings(self, _: web.Request) -> web.Response:
        return web.json_response(judge(self._rules, self._seen).as_dict())

    async def _answer(self, request: web.Request) -> web.Response:
        arrived = time.monotonic()
        number = self._count
        self._count += 1
        body = json.loads(await request.read())
        await self._open.wait()
        asked = [each for each in body["messages"] if each["role"] == "user"]
        found = _TASK.search(asked[0]["content"])
        task = int(found[1]) if found else -1
        status, delay_s = self._mood(number, time.monotonic())
        await asyncio.sleep(delay_s)
        prompt = sum(len(each["content"]) // 4 for each in body["messages"])
        completion = 1200 + 40 * (number % 7)
        limited = status == RATE_LIMITED
        self._seen.append(
            Seen(
                f"task {task}, turn {len(asked)}",
                arrived,
                time.monotonic(),
                status,
                prompt + completion if status == 200 else 0,
                RETRY_AFTER_S if limited else 0.0,
            )
        )
        if status != 200:
            error = {"error": {"message": "not now", "type": "scripted", "code": None}}
            headers = {"retry-after-ms": str(round(1000 * RETRY_AFTER_S))} if limited else {}
            return web.json_response(error, status=status, headers=headers)
        return web.json_response(_completion(body["model"], _program(task, len(asked)), prompt, completion))

    def _mood(self, number: int, now: float) -> tuple[int, float]:
        """The status of an answer, and after how many seconds it comes."""
        usual_s = 0.02 + 0.01 * (number % 4)
        if any(number in burst for burst in self._bursts):
            return RATE_LIMITED, usual_s
        if number < self._outage_from or self._probed:
            return 200, usual_s
        if self._failures >= self._rules.threshold and now > self._last_failure + QUIET_S:
            self._probed = True
            return 200, PROBE_DELAY_S
        self._failures += 1
        self._last_failure = now
        return OVERLOADED, OUTAGE_DELAY_S


def _program(task: int, turn: int) -> str:
    if turn == 1 and task % WRONG_EVERY == 0:
        return f"print({task} * {task} + undefined_name)"
    return f"print({task} * {task})"


def _completion(model: str, code: str, prompt: int, completion: int) -> dict[str, Any]:
    said = {"role": "assistant", "content": f"```python\n{code}\n```\n"}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": f"{model}-strict",
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        "usage": usage,
    }


async def _serve(gateway: Gateway) -> None:
    runner = web.AppRunner(gateway.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.crowd.gateway")
    parser.add_argument("--expected", type=int, required=True, help="requests that will come at least")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(Gateway(Rules(), parser.parse_args(arguments).expected)))


if __name__ == "__main__":
    main()
