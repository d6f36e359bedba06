"""Code that runs in several processes at once against one Redis: what the tests of this folder hand out."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, TypeVar

from worker.model.buckets import Limit
from worker.model.budget import Budgets, Day, TooLittle
from worker.model.flight import Flights
from worker.model.gate import Door, Gate, Ticket
from worker.model.gateways import Gateways
from worker.model.port import Models, Want
from worker.model.settings import ModelSettings
from worker.model.shared import Script, Shared
from worker.model.types import Message

T = TypeVar("T")

COUNT = Script("return redis.call('INCR', KEYS[1])")


def quick(**changes: Any) -> ModelSettings:
    """Settings in which a minute is 0.6 seconds, and everything else a hundred times as fast too."""
    given: dict[str, Any] = {
        "call_timeout_s": 5.0, "retry_base_s": 0.01, "retry_most_s": 0.3, "retry_jitter_s": 0.01,
        "retry_after_most_s": 1.2, "breaker_timeout_s": 0.6, "lease_s": 2.0, "window_s": 0.6, "transit_s": 5.0,
        "adaptive_window_s": 0.01, "caller_requests": None, "named_patience_s": 0.1, "queue_after_s": 30.0,
        "poll_s": 0.01, "flight_poll_s": 0.01,
    }  # fmt: skip
    return ModelSettings(**{**given, **changes})


def together(url: str, start: float, work: Callable[[Shared], Awaitable[T]]) -> T:
    """Run `work` at the moment `start` of the machine's clock, with a Redis pool of its own."""

    async def main() -> T:
        shared = Shared(url)
        try:
            await asyncio.sleep(max(0.0, start - time.monotonic()))
            return await work(shared)
        finally:
            await shared.close()

    return asyncio.run(main())


async def admitted(gate: Gate, door: Door, tokens: int) -> Ticket:
    """Ask until it lets us in."""
    while True:
        entry = await gate.admit(door, tokens)
        if isinstance(entry, Ticket):
            return entry
        assert entry.wait_s is not None
        await asyncio.sleep(min(entry.wait_s, 0.01))


def knock(url: str, start: float, settings: ModelSettings, callers: int) -> list[bool]:
    """So many callers at one door, at once; for each that got in, whether as a probe."""

    async def work(shared: Shared) -> list[bool]:
        gate = Gate(shared, settings)
        got = await asyncio.gather(*(gate.admit(Door("d"), 1) for _ in range(callers)))
        return [each.probe for each in got if isinstance(each, Ticket)]

    return together(url, start, work)


def spend(
    url: str, start: float, settings: ModelSettings, limit: Limit, calls: int, tokens: tuple[int, int]
) -> list[tuple[float, int]]:
    """Make calls through a limit: when each arrived and how many tokens it used, of those it reserved."""
    reserved, used = tokens

    async def work(shared: Shared) -> list[tuple[float, int]]:
        gate = Gate(shared, settings)
        door = Door("d", (limit,))
        arrived: list[tuple[float, int]] = []

        async def one(number: int) -> None:
            entry = await admitted(gate, door, reserved)
            await asyncio.sleep(0.02 * (number % 3))  # on its way
            arrived.append((time.monotonic(), used))
            await asyncio.sleep(0.005)
            await gate.report(entry, "success", tokens=used)

        await asyncio.gather(*(one(n) for n in range(calls)))
        return arrived

    return together(url, start, work)


def die_as_probe(url: str, settings: ModelSettings) -> None:
    """Get in, and die with the call under way."""

    async def work(shared: Shared) -> None:
        entry = await Gate(shared, settings).admit(Door("d"), 1)
        assert isinstance(entry, Ticket)
        os.kill(os.getpid(), signal.SIGKILL)

    together(url, 0.0, work)


def generate(
    url: str, served: Gateways, settings: ModelSettings, model: str, numbers: Iterable[int]
) -> list[int]:
    """Ask once for each number, all at the same time, as a worker's threads do; the calls that each took."""
    with Models(served, url, settings) as models:

        def one(number: int) -> int:
            question = Message("user", f"task {number}: " + "x" * 400)
            want = Want(str(number), (question,), model=model, fallbacks=(), max_tokens=1850, deadline_s=100.0)
            return len(models.generate(want).calls)

        numbers = list(numbers)
        with ThreadPoolExecutor(len(numbers)) as pool:
            return list(pool.map(one, numbers))


def fly(url: str, start: float, settings: ModelSettings, key: str, flyers: int, lasts_s: float) -> list[str]:
    """So many identical calls at once, which take some time; what each got. Redis counts those `made`."""

    async def work(shared: Shared) -> list[str]:
        flights = Flights(shared, settings)

        async def make() -> str:
            number = await shared.run(COUNT, ["made"])
            await asyncio.sleep(lasts_s)
            return f"answer {number}"

        return list(await asyncio.gather(*(flights.fly(key, make) for _ in range(flyers))))

    return together(url, start, work)


def die_flying(url: str, settings: ModelSettings, key: str) -> None:
    """Lead a flight, and die on the way."""

    async def work(shared: Shared) -> None:
        async def make() -> str:
            await shared.run(COUNT, ["made"])
            os.kill(os.getpid(), signal.SIGKILL)
            return ""

        await Flights(shared, settings).fly(key, make)

    together(url, 0.0, work)


def spend_day(
    url: str, start: float, settings: ModelSettings, day: Day, calls: int, usd: tuple[Decimal, Decimal]
) -> Decimal:
    """Make calls on a caller's day, as far as its money goes; what they cost in all."""
    most, real = usd

    async def work(shared: Shared) -> Decimal:
        budgets = Budgets(shared, settings)

        async def one() -> Decimal:
            held = await budgets.reserve(day, most)
            if isinstance(held, TooLittle):
                return Decimal(0)
            async with budgets.alive(held):
                await asyncio.sleep(0.01)
            await budgets.settle(held, real)
            return real

        return sum(await asyncio.gather(*(one() for _ in range(calls))), Decimal(0))

    return together(url, start, work)
