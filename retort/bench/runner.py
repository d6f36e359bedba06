"""Measures what a plan has and a journal lacks. One event loop; it can be cancelled at any time."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from retort.bench.asking import ask, run, same_for_all
from retort.bench.journal import Journal
from retort.bench.judging import measured_program, measured_task, seconds_between
from retort.bench.measurement import EXECUTION, Measurement
from retort.bench.plan import Item, Plan, batches
from retort.bench.service import BenchClient
from retort.bench.tasks import Task

#: What is run many times at once to see cold sandboxes: it holds its sandbox until the others have theirs.
SLEEPER = Task(name="burst", category="cold start", program="import time\ntime.sleep(0.5)\n")

Progress = Callable[[int, int, Measurement], None]


class Runner:
    """One benchmark under way. `spend_usd`: no further measurement begins once this much was spent."""

    def __init__(
        self,
        plan: Plan,
        client: BenchClient,
        journal: Journal,
        *,
        spend_usd: Decimal | None = None,
        progress: Progress = lambda _done, _all, _measurement: None,
    ) -> None:
        self._plan = plan
        self._client = client
        self._journal = journal
        self._spend_usd = spend_usd
        self._progress = progress

    async def run(self) -> bool:
        """Measure; whether everything was measured, False where the money ended.

        Raises:
            RetortError: the service refused a request, or went away. What was measured is kept.
        """
        try:
            await self._all()
        except BaseExceptionGroup as group:  # of several that failed together one says enough
            raise group.exceptions[0] from None
        return all(item.key in self._journal.done for item in self._plan.items())

    async def _all(self) -> None:
        if self._plan.execution and self._plan.burst:
            await self._burst()
        left = [item for item in self._plan.items() if item.key not in self._journal.done]
        slots = asyncio.Semaphore(self._plan.concurrency)
        for number, batch in enumerate(batches(left, self._plan.batch)):
            if number:
                await asyncio.sleep(self._plan.pause_s)
            async with asyncio.TaskGroup() as group:
                for item in batch:
                    group.create_task(self._in_turn(slots, item))

    def spent(self) -> Decimal:
        """What is known to have been spent, in dollars."""
        return sum((each.cost for each in self._journal.done.values() if each.cost is not None), Decimal(0))

    async def _in_turn(self, slots: asyncio.Semaphore, item: Item) -> None:
        async with slots:
            if self._spend_usd is not None and item.subject != EXECUTION and self.spent() >= self._spend_usd:
                return
            self._keep(await self._measure(item))

    async def _measure(self, item: Item, **more: Any) -> Measurement:
        code = item.subject == EXECUTION
        settings = self._plan.settings
        request = run(item.task, settings) if code else ask(item.task, item.subject, settings)
        job, seconds = await self._client.measured(request, f"bench-{self._journal.run}-{item.key}")
        known: dict[str, Any] = {
            "subject": item.subject,
            "iteration": item.iteration,
            "asked": same_for_all(request),
            "latency_s": seconds_between(job) if seconds is None else round(seconds, 6),
            "taken_up": seconds is None,
            **more,
        }
        if code:
            return measured_program(item.task, job, **known)
        numbers = [int(each["number"]) for each in job["attempts"]]
        attempts = [await self._client.tried(job["id"], number) for number in numbers]
        return measured_task(item.task, job, attempts, **known)

    async def _burst(self) -> None:
        """More programs at once than there are warm sandboxes, so that some need a cold one."""
        items = [Item(EXECUTION, SLEEPER, number) for number in range(1, self._plan.burst + 1)]
        left = [item for item in items if item.key not in self._journal.done]
        if len(left) < len(items):
            return  # half a burst shows nothing
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._measure(item, burst=True)) for item in left]
        for task in running:
            self._keep(task.result())

    def _keep(self, measurement: Measurement) -> None:
        self._journal.add(measurement)
        done = self._journal.done.values()
        measured = sum(not each.burst for each in done)
        self._progress(measured, len(self._plan.items()), measurement)
