"""Breaker, buckets and adaptive rate over a real Redis, from several processes at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import pytest

from tests.integration.model import parties
from tests.integration.model.conftest import PROCESSES
from worker.model.buckets import Limit, limits_of_caller
from worker.model.gate import Closed, Door, Gate, Outcome, Ticket
from worker.model.settings import ModelSettings
from worker.model.shared import Shared, SharedDown

T = TypeVar("T")
DOOR = Door("d")
SOON_S = 0.4  # for the processes to take their work


def run(url: str, settings: ModelSettings, work: Callable[[Gate], Awaitable[T]]) -> T:
    return parties.together(url, 0.0, lambda shared: work(Gate(shared, settings)))


async def enter(gate: Gate, door: Door = DOOR, tokens: int = 1) -> Ticket:
    entry = await gate.admit(door, tokens)
    assert isinstance(entry, Ticket), entry
    return entry


async def fail(gate: Gate, times: int) -> None:
    for entry in [await enter(gate) for _ in range(times)]:
        await gate.report(entry, "failure", why="server")


# --- the breaker


def test_one_probe_of_fifty_callers_in_four_processes(url: str, processes: ProcessPoolExecutor) -> None:
    settings = parties.quick(adaptive_initial=100, adaptive_most=100)
    run(url, settings, lambda gate: fail(gate, settings.breaker_threshold))
    for _ in range(3):
        # Nobody reports, so the breaker stays half open until the lease of the probe ends.
        settings = settings.model_copy(update={"lease_s": settings.breaker_timeout_s})
        start = time.monotonic() + max(SOON_S, settings.breaker_timeout_s + 0.05)
        work = [processes.submit(parties.knock, url, start, settings, 13) for _ in range(PROCESSES)]
        assert [each for done in work for each in done.result()] == [True]


def test_it_opens_after_failures_in_a_row_and_a_success_clears_the_count(url: str) -> None:
    settings = parties.quick(breaker_threshold=3)

    async def work(gate: Gate) -> None:
        await fail(gate, 2)
        await gate.report(await enter(gate), "success")
        await fail(gate, 2)
        assert isinstance(await gate.admit(DOOR, 1), Ticket)
        await fail(gate, 1)
        entry = await gate.admit(DOOR, 1)
        assert isinstance(entry, Closed)
        assert entry.wait_s == pytest.approx(settings.breaker_timeout_s, rel=0.5)
        assert "open (server)" in entry.reason

    run(url, settings, work)


@pytest.mark.parametrize(
    ("outcome", "after"),
    [
        ("success", "closed"),
        ("answered", "closed"),
        ("failure", "open"),
        ("fatal", "open"),
        ("abandoned", "probe"),
    ],
)
def test_what_a_probe_decides(url: str, outcome: Outcome, after: str) -> None:
    settings = parties.quick(breaker_threshold=1, breaker_timeout_s=0.1)

    async def work(gate: Gate) -> None:
        await fail(gate, 1)
        await asyncio.sleep(0.11)
        probe = await enter(gate)
        assert probe.probe
        refused = await gate.admit(DOOR, 1)
        assert isinstance(refused, Closed)
        assert "probes" in refused.reason
        await gate.report(probe, outcome)
        entry = await gate.admit(DOOR, 1)
        if after == "open":
            assert isinstance(entry, Closed)
        else:
            assert isinstance(entry, Ticket)
            assert entry.probe is (after == "probe")

    run(url, settings, work)


def test_a_wrong_key_opens_it_at_once(url: str) -> None:
    async def work(gate: Gate) -> None:
        await gate.report(await enter(gate), "fatal", why="auth")
        assert isinstance(await gate.admit(DOOR, 1), Closed)

    run(url, parties.quick(), work)


def test_a_429_neither_counts_nor_clears(url: str) -> None:
    async def work(gate: Gate) -> None:
        for _ in range(10):
            await gate.report(await enter(gate), "answered", limited=True)
        assert (await gate.states([DOOR]))["d"].breaker == "closed"
        await fail(gate, 4)
        await gate.report(await enter(gate), "answered", limited=True)
        await fail(gate, 1)
        assert (await gate.states([DOOR]))["d"].breaker == "open"

    run(url, parties.quick(adaptive_initial=1000, adaptive_least=1000), work)


def test_reports_of_an_earlier_time_are_ignored(url: str) -> None:
    settings = parties.quick(breaker_threshold=1, breaker_timeout_s=0.1)

    async def work(gate: Gate) -> None:
        early = [await enter(gate) for _ in range(3)]
        await fail(gate, 1)
        await gate.report(early[0], "success")  # does not close it
        assert (await gate.states([DOOR]))["d"].breaker == "open"
        await asyncio.sleep(0.11)
        probe = await enter(gate)
        await gate.report(early[1], "failure")  # is not the probe
        assert (await gate.states([DOOR]))["d"].breaker == "half"
        await gate.report(probe, "success")
        await gate.report(early[2], "failure")  # does not open it again
        state = (await gate.states([DOOR]))["d"]
        assert (state.breaker, state.opens, state.probes) == ("closed", 1, 1)

    run(url, settings, work)


def test_the_probe_of_a_dead_process_is_taken_over(url: str) -> None:
    settings = parties.quick(breaker_threshold=1, breaker_timeout_s=0.05, lease_s=1.0)

    async def break_it(gate: Gate) -> None:
        await fail(gate, 1)
        await asyncio.sleep(0.06)

    run(url, settings, break_it)
    process = get_context("spawn").Process(target=parties.die_as_probe, args=(url, settings))
    process.start()
    process.join()
    assert process.exitcode == -9

    async def work(gate: Gate) -> None:
        assert (await gate.states([DOOR]))["d"].breaker == "half"
        entry = await parties.admitted(gate, DOOR, 1)
        assert entry.probe
        await gate.report(entry, "success")
        assert (await gate.states([DOOR]))["d"].breaker == "closed"

    run(url, settings, work)


def test_a_probe_that_takes_long_keeps_its_place(url: str) -> None:
    settings = parties.quick(breaker_threshold=1, breaker_timeout_s=0.05, lease_s=0.6)

    async def work(gate: Gate) -> None:
        await fail(gate, 1)
        await asyncio.sleep(0.06)
        probe = await enter(gate)
        async with gate.alive(probe):
            await asyncio.sleep(1.5 * settings.lease_s)
            assert isinstance(await gate.admit(DOOR, 1), Closed)

    run(url, settings, work)


# --- buckets


def most_in_a_window(arrived: list[tuple[float, int]], window_s: float) -> tuple[int, int]:
    """The most requests, and the most tokens, in any window of this length."""
    arrived = sorted(arrived)
    windows = [[each for each in arrived if at <= each[0] < at + window_s] for at, _ in arrived]
    return max(map(len, windows)), max(sum(tokens for _, tokens in window) for window in windows)


@pytest.mark.parametrize(
    ("limit", "tokens", "calls"),
    [
        (Limit("b", requests=20, window_s=0.5), (1, 1), 80),
        (Limit("b", tokens=10_000, window_s=0.5), (1000, 600), 60),
        (Limit("b", requests=30, tokens=12_000, burst=7, window_s=0.5), (900, 300), 88),
    ],
)
def test_no_window_sees_more_than_the_limit(
    url: str, processes: ProcessPoolExecutor, limit: Limit, tokens: tuple[int, int], calls: int
) -> None:
    settings = parties.quick(adaptive_initial=1000, adaptive_most=1000)
    start = time.monotonic() + SOON_S
    each = calls // PROCESSES
    work = [
        processes.submit(parties.spend, url, start, settings, limit, each, tokens) for _ in range(PROCESSES)
    ]
    arrived = [call for done in work for call in done.result()]
    assert len(arrived) == calls
    requests, used = most_in_a_window(arrived, limit.window_s)
    assert requests <= (limit.requests or calls)
    assert used <= (limit.tokens or calls * tokens[0])
    # And the limit is used up: with no burst to hold it, as much as may be reserved passes at once.
    if limit.burst is None:
        assert requests >= min(limit.requests or calls, (limit.tokens or calls * tokens[0]) // tokens[0])


def test_tokens_are_reserved_settled_and_given_back(url: str) -> None:
    settings = parties.quick(window_s=60)
    door = Door("d", (Limit("b", tokens=1000, window_s=60),))

    async def work(gate: Gate) -> None:
        first = await enter(gate, door, 900)
        assert isinstance(await gate.admit(door, 200), Closed)
        await gate.report(first, "success", tokens=100)  # it used less
        second = await enter(gate, door, 900)
        await gate.report(second, "failure", tokens=0)  # nothing was used
        third = await enter(gate, door, 500)
        await gate.report(third, "success", tokens=950)  # it used more than anybody thought
        refused = await gate.admit(door, 1)
        assert isinstance(refused, Closed)
        assert refused.wait_s == pytest.approx(60, abs=5)
        assert "tokens are used up (b)" in refused.reason

    run(url, settings, work)


def test_a_failed_request_counts_and_one_that_was_not_sent_does_not(url: str) -> None:
    door = Door("d", (Limit("b", requests=2, window_s=60),))

    async def work(gate: Gate) -> None:
        await gate.report(await enter(gate, door), "failure")
        await gate.report(await enter(gate, door), "abandoned", sent=False)
        await gate.report(await enter(gate, door), "success")
        assert isinstance(await gate.admit(door, 1), Closed)

    run(url, parties.quick(), work)


def test_a_call_larger_than_the_limit_never_enters(url: str) -> None:
    door = Door("d", (Limit("b", tokens=1000),))

    async def work(gate: Gate) -> None:
        entry = await gate.admit(door, 1001)
        assert isinstance(entry, Closed)
        assert entry.wait_s is None

    run(url, parties.quick(), work)


def test_it_takes_all_buckets_or_none(url: str) -> None:
    both = Door("d", (Limit("model", requests=5), Limit("provider", requests=1)))
    model = Door("d", (Limit("model", requests=5),))

    async def work(gate: Gate) -> None:
        await enter(gate, both)
        for _ in range(9):
            assert isinstance(await gate.admit(both, 1), Closed)
        for _ in range(4):
            await enter(gate, model)
        assert isinstance(await gate.admit(model, 1), Closed)

    run(url, parties.quick(adaptive_initial=100), work)


def test_calls_under_way_are_bounded_and_a_dead_one_frees_its_place(url: str) -> None:
    door = Door("d", (Limit("b", burst=2),))
    settings = parties.quick(lease_s=0.3)

    async def work(gate: Gate) -> None:
        alive, _dead = await enter(gate, door), await enter(gate, door)
        async with gate.alive(alive):
            await parties.admitted(gate, door, 1)
            assert isinstance(await gate.admit(door, 1), Closed)  # the one that lives still has its place
        await gate.report(alive, "success")
        await enter(gate, door)

    run(url, settings, work)


def test_ten_a_second_with_twenty_at_once_for_each_caller(url: str) -> None:
    settings = ModelSettings(adaptive_initial=1000)
    door, other = (Door("d", limits_of_caller(name, None, settings)) for name in ("anna", "ben"))

    async def work(gate: Gate) -> None:
        for _ in range(20):
            await enter(gate, door)
        refused = await gate.admit(door, 1)
        assert isinstance(refused, Closed)
        assert "the caller's own requests" in refused.reason
        await enter(gate, other)

    run(url, settings, work)


# --- the adaptive rate and pauses


def test_the_rate_climbs_with_successes_and_is_halved_once_per_window_by_429_alone(url: str) -> None:
    settings = parties.quick(adaptive_window_s=0.2)

    async def rate(gate: Gate) -> float:
        return (await gate.states([DOOR]))["d"].rate

    async def work(gate: Gate) -> None:
        assert await rate(gate) == 10
        for entry in [await enter(gate) for _ in range(4)]:
            await gate.report(entry, "success")
        assert await rate(gate) == 12
        for outcome in ("failure", "abandoned", "answered"):
            await gate.report(await enter(gate), outcome)
        assert await rate(gate) == 12
        for entry in [await enter(gate) for _ in range(4)]:
            await gate.report(entry, "answered", limited=True)
        assert await rate(gate) == 6
        for _ in range(5):
            await asyncio.sleep(settings.adaptive_window_s)
            await gate.report(await enter(gate), "answered", limited=True)
        assert await rate(gate) == settings.adaptive_least
        for _ in range(40):
            entry = await parties.admitted(gate, DOOR, 1)
            await gate.report(entry, "success")
        assert await rate(gate) == settings.adaptive_most

    run(url, settings, work)


def test_no_more_than_the_rate_in_a_window(url: str) -> None:
    settings = parties.quick(adaptive_window_s=30)

    async def work(gate: Gate) -> None:
        for _ in range(10):
            await enter(gate)
        refused = await gate.admit(DOOR, 1)
        assert isinstance(refused, Closed)
        assert "rate" in refused.reason

    run(url, settings, work)


def test_what_a_gateway_asks_for_holds_for_everybody(url: str, processes: ProcessPoolExecutor) -> None:
    settings = parties.quick()

    async def work(gate: Gate) -> None:
        first, second = await enter(gate), await enter(gate)
        await gate.report(first, "answered", limited=True, pause_s=30)
        await gate.report(second, "answered", limited=True, pause_s=1)  # shortens nothing
        refused = await gate.admit(DOOR, 1)
        assert isinstance(refused, Closed)
        assert refused.wait_s == pytest.approx(30, abs=5)

    run(url, settings, work)
    assert processes.submit(parties.knock, url, 0.0, settings, 5).result() == []


# --- the rest


def test_looking_takes_nothing(url: str) -> None:
    settings = parties.quick(breaker_threshold=1, breaker_timeout_s=0.05)
    door = Door("d", (Limit("b", requests=1),))

    async def work(gate: Gate) -> None:
        assert await gate.look([(door, 1), (DOOR, 1)]) == [None, None]
        await fail(gate, 1)
        assert all(isinstance(each, Closed) for each in await gate.look([(door, 1), (DOOR, 1)]))
        await asyncio.sleep(0.06)
        assert await gate.look([(door, 1)]) == [None]
        assert (await enter(gate, door)).probe

    run(url, settings, work)


def test_without_redis_nobody_enters() -> None:
    with pytest.raises(SharedDown):
        run("unix:///nonexistent/redis.sock", parties.quick(), lambda gate: gate.admit(DOOR, 1))


def test_everything_is_forgotten_after_its_time(url: str) -> None:
    async def work(shared: Shared) -> None:
        gate = Gate(shared, parties.quick())
        door = Door("d", (Limit("b", requests=5, tokens=50, burst=2),))
        await gate.report(await enter(gate, door), "success", tokens=1)
        await gate.report(await enter(gate, door), "failure", pause_s=0.5)
        client = shared._client
        assert [key async for key in client.scan_iter() if await client.pttl(key) < 0] == []

    parties.together(url, 0.0, work)
