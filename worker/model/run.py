"""The story of one answer: cache, flight, then for each try entrance, budget, question, and what its end means.

Runs in the event loop. What blocks (the cache, storing a call) is handed to the thread that waits for the
answer.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic
from typing import Protocol, TypeVar

from worker.model import answers, question, retry, router
from worker.model.budget import Budgets, Day, Reservation, TooLittle
from worker.model.entrance import Entrance
from worker.model.flight import Flights
from worker.model.gate import Gate, Ticket
from worker.model.ledger import Ledger
from worker.model.line import Lines
from worker.model.question import Asked, Client, Report
from worker.model.router import Candidate, Plan
from worker.model.settings import ModelSettings
from worker.model.shared import SharedDown
from worker.model.stats import LiveStats
from worker.model.types import RETRYABLE, ModelAnswer
from worker.model.want import CallRecord, CallStatus, DeadlinePassed, Generated, Queued, Want

T = TypeVar("T")


class AnswerCache(Protocol):
    """Where answers to be used again are kept. Called in the thread that called `generate`.

    A key is the sha256, in hexadecimal, of everything that changes an answer, the caller too; an entry is JSON.
    """

    def get(self, key: str, caller: str) -> str | None:
        """The entry, or None."""

    def put(self, key: str, caller: str, job: str, entry: str) -> None:
        """Keep an entry; one that is there already may stay."""


class Hand(Protocol):
    """Runs something that blocks in the thread that waits for the answer."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises."""


@dataclass(slots=True)
class Tools:
    """What all runs of a process share."""

    client: Client
    gate: Gate
    budgets: Budgets
    flights: Flights
    settings: ModelSettings
    stats: LiveStats
    cache: AnswerCache | None = None
    lines: Lines = field(default_factory=Lines)
    chance: Callable[[], float] = random.random


class Run:
    """One `generate`, from its plan to its answer."""

    def __init__(self, want: Want, plan: Plan, tools: Tools, hand: Hand) -> None:
        self._want = want
        self._tools = tools
        self._settings = tools.settings
        self._hand = hand
        self._deadline = monotonic() + want.deadline_s
        self._ledger = Ledger(want, plan)
        self._entrance = Entrance(want, self._ledger, tools.gate, tools.lines, tools.settings)

    async def generate(self) -> Generated:
        """The answer. Raises GenerateError, and what `on_call` raises."""
        try:
            first, began = self._ledger.candidates[0], monotonic()
            if (kept := await self._kept(first)) is not None:
                reason = f"{first.reason}; kept from an earlier call"
                return await self._reuse(kept, CallStatus.CACHED, monotonic() - began, reason)
            if self._want.coalesce:
                return await self._fly()
            return await self._ask_until_answered()
        except SharedDown as e:
            reason = f"calls cannot be coordinated between workers: {e}"
            ledger = self._ledger
            raise Queued(reason, ledger.skipped, ledger.calls, self._settings.lease_s, ledger.last) from e

    async def _fly(self) -> Generated:
        """Ask, unless somebody asks the same at this moment."""
        candidates = self._ledger.candidates
        key = answers.key_of(
            self._want, [each.name for each in candidates], [each.max_tokens for each in candidates]
        )
        made: list[Generated] = []

        async def make() -> str:
            made.append(await self._ask_until_answered())
            return answers.write(made[0].answer)

        began = monotonic()
        entry = await self._tools.flights.fly(key, make)
        if made:
            return made[0]
        answer = answers.read(entry)
        if answer is None:  # of a worker of another version
            return await self._ask_until_answered()
        reason = "an identical call was under way"
        return await self._reuse(answer, CallStatus.SHARED, monotonic() - began, reason)

    async def _ask_until_answered(self) -> Generated:
        while (entry := await self._entrance.enter(self._deadline)) is not None:
            candidate, ticket, waited_s = entry
            asked = await self._ask(candidate, ticket, waited_s)
            if asked is None:
                continue
            if asked.answer is not None:
                return self._ledger.generated(asked.answer, candidate.reason)
            await self._after(candidate, asked)
        raise self._ledger.nothing_left(self._settings.breaker_timeout_s)

    # --- one question

    async def _ask(self, candidate: Candidate, ticket: Ticket, waited_s: float) -> Asked | None:
        """Ask once, and have it stored. None: there is no money for it."""
        report, held, cost = question.NOT_SENT, None, Decimal(0)
        leaving: asyncio.Future[None] | None = None
        try:
            reason, held = await self._reserve(candidate)
            if reason is not None:
                self._ledger.over_budget = True
                self._ledger.drop(candidate, reason)
                return None
            report = question.CUT_OFF
            asked = await self._send(candidate, ticket, held, waited_s)
            report, cost = self._report(asked), asked.record.cost_usd or cost
            leaving = asyncio.ensure_future(self._leave(ticket, report, held, cost))  # while the call is stored
            await self._keep(asked.record, asked.answer, candidate.reason)
            if asked.answer is not None:
                await self._put(candidate, asked.answer)
            return asked
        finally:
            # Also when this run is being cancelled.
            leaving = leaving or asyncio.ensure_future(self._leave(ticket, report, held, cost))
            await asyncio.shield(leaving)

    async def _reserve(self, candidate: Candidate) -> tuple[str | None, Reservation | None]:
        """Why there is no money for a call; else what is set aside for it."""
        want = self._want
        worst = candidate.worst_case_usd(self._ledger.plan.input_tokens)
        if worst is None:
            return None, None  # the plan lets such a model through only where that is allowed
        reason = router.too_dear(worst, self._ledger.left_usd)
        if reason is not None or want.caller_budget_usd is None:
            return reason, None
        day = Day(want.caller, want.caller_day, want.caller_budget_usd, want.caller_spent_usd)
        got = await self._tools.budgets.reserve(day, worst)
        if isinstance(got, TooLittle):
            return router.too_dear(worst, got.left_usd, "the caller today") or "the caller's day is spent", None
        return None, got

    async def _send(
        self, candidate: Candidate, ticket: Ticket, held: Reservation | None, waited_s: float
    ) -> Asked:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._tools.gate.alive(ticket))
            if held is not None:
                await stack.enter_async_context(self._tools.budgets.alive(held))
            return await question.ask(
                self._tools.client, candidate, self._want,
                number=len(self._ledger.calls) + 1,
                retry=self._ledger.tries(candidate),
                waited_s=waited_s,
                within_s=min(self._settings.call_timeout_s, self._deadline - monotonic()),
            )  # fmt: skip

    def _report(self, asked: Asked) -> Report:
        pause_s, error = 0.0, asked.error
        if error is not None and error.retry_after_s is not None and error.retry_after_s > 0:
            wait_s = retry.delay(error, 0, self._settings, self._tools.chance)
            pause_s = self._settings.retry_after_most_s if wait_s is None else wait_s
        cut_short = monotonic() >= self._deadline
        return question.report_of(asked, self._ledger.plan.input_tokens, pause_s, cut_short, self._settings)

    async def _leave(self, ticket: Ticket, report: Report, held: Reservation | None, cost: Decimal) -> None:
        told = self._tools.gate.report(
            ticket, report.outcome, tokens=report.tokens, sent=report.sent, limited=report.limited,
            pause_s=report.pause_s, why=report.why,
        )  # fmt: skip
        if held is None:
            await told
        else:
            await asyncio.gather(told, self._tools.budgets.settle(held, cost))

    async def _after(self, candidate: Candidate, asked: Asked) -> None:
        """Wait before the next try, or give the candidate up."""
        ledger, error = self._ledger, asked.error
        if error is None:
            return
        ledger.last = error
        tries = ledger.tries(candidate)
        wait_s = retry.delay(error, tries - 1, self._settings, self._tools.chance)
        if wait_s is None:
            ledger.transient |= error.kind in RETRYABLE
            ledger.drop(candidate, f"failed in {tries} calls: {error}" if tries > 1 else f"failed: {error}")
        elif monotonic() + wait_s >= self._deadline:
            raise DeadlinePassed(f"time is up: {error}", ledger.skipped, ledger.calls, error)
        elif error.retry_after_s is None or error.retry_after_s <= 0:
            await asyncio.sleep(wait_s)
        # Else the gate is shut for that time, for everybody, and another candidate may be free meanwhile.

    # --- records and kept answers

    async def _keep(self, record: CallRecord, answer: ModelAnswer | None, reason: str) -> None:
        """Have a call stored before anything else happens with it."""
        self._ledger.add(record)
        self._tools.stats.count(record)
        if (on_call := self._want.on_call) is not None:
            generated = None if answer is None else self._ledger.generated(answer, reason)
            await self._hand(lambda: on_call(record, generated))

    async def _reuse(self, answer: ModelAnswer, status: CallStatus, took_s: float, reason: str) -> Generated:
        number = len(self._ledger.calls) + 1
        record = question.reused(answer, status, self._want, number=number, took_s=took_s)
        await self._keep(record, answer, reason)
        return self._ledger.generated(answer, reason)

    async def _kept(self, candidate: Candidate) -> ModelAnswer | None:
        cache = self._tools.cache
        if not self._want.cache or cache is None:
            return None
        key = answers.key_of(self._want, [candidate.name], [candidate.max_tokens])
        entry = await self._hand(lambda: cache.get(key, self._want.caller))
        return None if entry is None else answers.read(entry)

    async def _put(self, candidate: Candidate, answer: ModelAnswer) -> None:
        cache = self._tools.cache
        if not self._want.cache or cache is None:
            return
        key = answers.key_of(self._want, [candidate.name], [candidate.max_tokens])
        want = self._want
        await self._hand(lambda: cache.put(key, want.caller, want.job, answers.write(answer)))
