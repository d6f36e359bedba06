"""Waiting to be let in: in line, to the best candidate that can be had, no longer than makes sense."""

import asyncio
from contextlib import AsyncExitStack
from time import monotonic

from worker.model import router
from worker.model.buckets import limits_of, limits_of_caller
from worker.model.gate import Closed, Door, Gate, Ticket
from worker.model.ledger import Ledger
from worker.model.line import Lines
from worker.model.router import Candidate
from worker.model.settings import ModelSettings
from worker.model.want import Priority, Want


class Entrance:
    """The entrance of one `generate`; it may have to go through it several times."""

    def __init__(self, want: Want, ledger: Ledger, gate: Gate, lines: Lines, settings: ModelSettings) -> None:
        self._want = want
        self._ledger = ledger
        self._gate = gate
        self._lines = lines
        self._settings = settings
        self._waited_s = 0.0  # in all
        self._can_wait = want.priority is Priority.BATCH

    async def enter(self, deadline: float) -> tuple[Candidate, Ticket, float] | None:
        """Admission to a candidate, and how long it took; None: no candidate is left.

        `deadline` is a moment of `monotonic`.

        Raises:
            Queued, ModelsFailed: none can be had in time.
            SharedDown: nobody can say.
        """
        came = monotonic()
        until = deadline
        if self._want.may_queue:
            # Batch work soon gives its thread to somebody else: the queue is where it waits.
            most = self._settings.batch_queue_after_s if self._can_wait else self._settings.queue_after_s
            until = min(deadline, came + most - self._waited_s)
        try:
            while self._ledger.candidates:
                async with AsyncExitStack() as stack:
                    names = tuple(each.name for each in self._ledger.candidates)
                    try:
                        async with asyncio.timeout(until - monotonic()):
                            line = self._lines.stand(names, can_wait=self._can_wait)
                            await stack.enter_async_context(line)
                    except TimeoutError:
                        raise self._ledger.no_room(self._settings.poll_s) from None
                    entry = await self._at_the_head(came, until, len(names))
                if isinstance(entry, tuple):
                    return *entry, monotonic() - came
                await asyncio.sleep(entry)
        finally:
            self._waited_s += monotonic() - came
        return None

    async def _at_the_head(self, came: float, until: float, count: int) -> tuple[Candidate, Ticket] | float:
        """Ask until one lets us in.

        Else seconds after which to stand in line again: at once where fewer than `count` candidates are left,
        as that is another line; later where the caller has sent enough, which must hold up nobody else.
        """
        while True:
            if self._can_wait and self._lines.urgent(tuple(each.name for each in self._ledger.candidates)):
                if monotonic() + self._settings.poll_s > until:
                    raise self._ledger.no_room(self._settings.poll_s)
                await asyncio.sleep(self._settings.poll_s)
                continue
            shut = await self._look()
            while len(self._ledger.candidates) == count:
                pick = router.pick(
                    self._ledger.candidates,
                    shut,
                    waited_s=self._waited_s + monotonic() - came,
                    patience_s=self._settings.named_patience_s,
                )
                self._ledger.note(pick.skipped)
                if pick.candidate is None:
                    break
                entry = await self._gate.admit(self._door(pick.candidate), self._tokens(pick.candidate))
                if isinstance(entry, Ticket):
                    return pick.candidate, entry
                shut[pick.candidate.name] = entry
                if entry.wait_s is None:
                    self._ledger.drop(pick.candidate, entry.reason)
            else:
                return 0.0
            callers = any(closed.callers for closed in shut.values())
            # However many jobs of a caller wait for its own limit, they must not hold the threads of others.
            too_long = callers and self._want.may_queue and pick.wait_s > self._settings.caller_queue_after_s
            if too_long or monotonic() + pick.wait_s > until:
                raise self._ledger.no_room(pick.wait_s, callers=callers)
            if callers:
                return pick.wait_s
            # It may be sooner than that: a call under way may use less than it reserved.
            await asyncio.sleep(min(pick.wait_s, self._settings.poll_s))

    async def _look(self) -> dict[str, Closed]:
        """Who is shut, by name. One alone is not looked at: admission itself tells."""
        candidates = self._ledger.candidates
        if len(candidates) == 1:
            return {}
        asked = [(self._door(each), self._tokens(each)) for each in candidates]
        found = zip(candidates, await self._gate.look(asked), strict=True)
        shut = {candidate.name: closed for candidate, closed in found if closed is not None}
        for candidate in candidates:
            if candidate.name in shut and shut[candidate.name].wait_s is None:
                self._ledger.drop(candidate, shut[candidate.name].reason)
        return shut

    def _door(self, candidate: Candidate) -> Door:
        limits = limits_of(candidate.gateway.buckets_for(candidate.model), self._settings)
        tokens = self._want.caller_tokens_per_minute
        return Door(candidate.name, limits + limits_of_caller(self._want.caller, tokens, self._settings))

    def _tokens(self, candidate: Candidate) -> int:
        return self._ledger.plan.input_tokens + candidate.max_tokens
