"""Single flight and the money of a caller's day, from several processes at once over a real Redis."""

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from multiprocessing import get_context

import pytest

from tests.integration.model import parties
from tests.integration.model.conftest import PROCESSES
from worker.model.budget import Budgets, Day, Reservation, TooLittle
from worker.model.flight import Flights
from worker.model.settings import ModelSettings
from worker.model.shared import PREFIX, Shared

SOON_S = 0.4
D = Decimal


def made(url: str) -> int:
    """How many calls were made."""

    async def ask(shared: Shared) -> int:
        return int(await shared._client.get(f"{PREFIX}made") or 0)

    return parties.together(url, 0.0, ask)


# --- single flight


def test_fifty_identical_calls_of_four_processes_are_made_once(
    url: str, processes: ProcessPoolExecutor
) -> None:
    start = time.monotonic() + SOON_S
    work = [processes.submit(parties.fly, url, start, parties.quick(), "k", 13, 0.5) for _ in range(PROCESSES)]
    assert {each for done in work for each in done.result()} == {"answer 1"}
    assert made(url) == 1


def test_different_calls_do_not_wait_for_each_other(url: str, processes: ProcessPoolExecutor) -> None:
    start = time.monotonic() + SOON_S
    work = [
        processes.submit(parties.fly, url, start, parties.quick(), f"k{n}", 2, 0.1) for n in range(PROCESSES)
    ]
    assert len({each for done in work for each in done.result()}) == PROCESSES
    assert made(url) == PROCESSES


def test_when_the_one_who_asks_dies_another_takes_over(url: str, processes: ProcessPoolExecutor) -> None:
    settings = parties.quick(lease_s=0.5)
    dying = get_context("spawn").Process(target=parties.die_flying, args=(url, settings, "k"))
    dying.start()
    dying.join()
    assert dying.exitcode == -9
    work = [processes.submit(parties.fly, url, 0.0, settings, "k", 5, 0.1) for _ in range(2)]
    assert {each for done in work for each in done.result()} == {"answer 2"}


def test_a_call_longer_than_the_lease_keeps_it(url: str, processes: ProcessPoolExecutor) -> None:
    settings = parties.quick(lease_s=0.6)
    start = time.monotonic() + SOON_S
    work = [processes.submit(parties.fly, url, start, settings, "k", 3, 1.5) for _ in range(PROCESSES)]
    assert {each for done in work for each in done.result()} == {"answer 1"}


def test_a_cancelled_one_leaves_the_lead_to_another(url: str) -> None:
    async def work(shared: Shared) -> None:
        flights = Flights(shared, ModelSettings())
        started = asyncio.Event()

        async def never() -> str:
            started.set()
            await asyncio.sleep(3600)
            return "never"

        async def soon() -> str:
            return "soon"

        first = asyncio.create_task(flights.fly("k", never))
        await started.wait()
        second = asyncio.create_task(flights.fly("k", soon))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await asyncio.wait_for(second, 10) == "soon"

    parties.together(url, 0.0, work)


# --- a caller's day


def test_a_day_is_never_overspent_by_four_processes(url: str, processes: ProcessPoolExecutor) -> None:
    day = Day("anna", "2026-11-21", D("1.00"), D("0.10"))
    start = time.monotonic() + SOON_S
    usd = (D("0.05"), D("0.03"))
    work = [
        processes.submit(parties.spend_day, url, start, parties.quick(), day, 20, usd) for _ in range(PROCESSES)
    ]
    spent = day.spent_usd + sum((each.result() for each in work), D(0))
    assert D("0.6") < spent <= day.budget_usd
    # One after the other, all but the last reserve can be spent.
    spent += processes.submit(parties.spend_day, url, 0.0, parties.quick(), day, 1, usd).result()
    assert spent <= day.budget_usd


def test_the_database_is_the_truth_and_an_old_figure_does_no_harm(url: str) -> None:
    async def work(shared: Shared) -> None:
        budgets = Budgets(shared, parties.quick())

        def day(spent: str, name: str = "d") -> Day:
            return Day("anna", name, D(1), D(spent))

        held = await budgets.reserve(day("0"), D("0.6"))
        assert isinstance(held, Reservation)
        assert await budgets.reserve(day("0"), D("0.6")) == TooLittle(D("0.4"))
        await budgets.settle(held, D("0.5"))
        assert await budgets.reserve(day("0"), D("0.6")) == TooLittle(D("0.5"))  # the figure is from before
        assert await budgets.reserve(day("0.9"), D("0.2")) == TooLittle(D("0.1"))  # the database knows of more
        assert isinstance(await budgets.reserve(day("0.9"), D("0.1")), Reservation)
        assert isinstance(await budgets.reserve(day("0", "tomorrow"), D(1)), Reservation)

    parties.together(url, 0.0, work)


def test_the_money_of_a_dead_process_is_free_again(url: str) -> None:
    async def work(shared: Shared) -> None:
        budgets = Budgets(shared, parties.quick(budget_lease_s=0.2))
        day = Day("anna", "d", D(1), D(0))
        alive, dead = await budgets.reserve(day, D("0.4")), await budgets.reserve(day, D("0.6"))
        assert isinstance(alive, Reservation)
        assert isinstance(dead, Reservation)
        async with budgets.alive(alive):
            got = await budgets.reserve(day, D("0.6"))
            while isinstance(got, TooLittle):
                await asyncio.sleep(0.02)
                got = await budgets.reserve(day, D("0.6"))
            assert await budgets.reserve(day, D("0.1")) == TooLittle(D(0))

    parties.together(url, 0.0, work)
