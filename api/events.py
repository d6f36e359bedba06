"""Event streams: a job's events as they happen, from any place on.

A stream keeps nothing but its place. It reads the job's rows, tells what is new, and waits to be woken; a
reader that is slow makes it read less often, and holds up nobody. Live output is read from Redis; what is
missed there, because it came too fast or Redis was away, is told from the rows when the attempt has ended.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import orjson
from redis.exceptions import RedisError
from sse_starlette.event import ServerSentEvent

from api import statements
from api.auth import Caller
from api.documents import artifact
from api.problems import Kind, Problem
from api.progress import STREAMS, Ended, Part, Place, Step, Stream, kept_parts, steps_of, text_of
from api.services import Services
from api.waiting import Watcher
from domain.bell import Output, output_key
from domain.states import FINAL_STATES, State

log = logging.getLogger(__name__)

#: Seconds after which a stream looks without being woken.
LOOK_S = 1.0

#: Entries of live output read at once.
_MOST_ENTRIES = 64


class Progress:
    """One client's stream of one job."""

    def __init__(self, services: Services, caller: Caller, job_id: UUID, place: Place) -> None:
        self._services = services
        self._ids = {"id": job_id, "caller_id": caller.id}
        self._job_id = job_id
        self.place = place
        self._job: Any = None
        self._attempts: list[Ended] = []
        self._entry: bytes | str = "-"  # of live output, the next to read
        self._missed: set[Stream] = set()

    async def look(self) -> bool:
        """Read the job's rows; whether there is such a job.

        Raises:
            Problem: 503.
        """
        row = await self._services.database.one(statements.PROGRESS, self._ids)
        if row is None:
            return False
        if self._job is None or row.attempts != len(self._attempts):
            rows = await self._services.database.all(statements.ENDED_ATTEMPTS, self._ids)
            # Those that came after the row was read wait until the next look.
            self._attempts = [self._ended(each) for each in rows if each.number is not None][: row.attempts]
        self._job = row
        return True

    def _ended(self, row: Any) -> Ended:
        short = {name: getattr(row, name) for name in statements.SHORT_ATTEMPT}
        kept = tuple(artifact(self._job_id, each, row.number) for each in row.a_kept or ())
        return Ended(short, row.artifacts, kept)

    @property
    def ended(self) -> bool:
        """Whether everything was told, and nothing more will happen."""
        return self._job.state in FINAL_STATES and self.place.step >= len(steps_of(self._job, self._attempts))

    async def follow(self, watching: AbstractAsyncContextManager[Watcher]) -> AsyncIterator[ServerSentEvent]:
        """All events from the place on, until the job's end, or the service's."""
        async with watching as watcher:
            # Each look comes after the last wake, so that nothing between two of them is missed.
            while await self._look_patiently():
                async for event in self._news():
                    yield event
                if self.ended or watcher.closed:
                    return
                await watcher.wait(LOOK_S)

    async def _look_patiently(self) -> bool:
        """Look; while the database is away the stream stays, and goes on when it is back."""
        try:
            return await self.look()
        except Problem as problem:
            if problem.kind is not Kind.UNAVAILABLE:
                raise
            return True

    async def _news(self) -> AsyncIterator[ServerSentEvent]:
        steps = steps_of(self._job, self._attempts)
        while self.place.step < len(steps):
            step = steps[self.place.step]
            if step is None:
                self.place = Place(self.place.step + 1)
                continue
            if step.attempt is not None:
                async for event in self._rest_of(step.attempt):
                    yield event
            yield self._step(step)
        if self._job.state == State.RUNNING:
            async for event in self._live():
                yield event

    def _step(self, step: Step) -> ServerSentEvent:
        self.place = Place(self.place.step + 1)
        self._missed.clear()
        return self._event(step.event, step.data)

    async def _rest_of(self, number: int) -> AsyncIterator[ServerSentEvent]:
        row = await self._services.database.one(statements.ATTEMPT, {**self._ids, "number": number})
        if row is None:  # deleted
            return
        for stream in STREAMS:
            kept, written = bytes(getattr(row, stream)), getattr(row, f"{stream}_bytes")
            head = getattr(row, f"{stream}_head", None)
            told = self.place.told(stream)
            while told < written:
                part = next(kept_parts(kept, written, head, told), None)
                if part is None:
                    break
                more = part.end < written
                data, told = text_of(part, more=more)
                if told == part.at:  # one cut character, and what comes after it is not kept
                    data, told = text_of(part, more=False)
                yield self._output(stream, number, data, told)

    async def _live(self) -> AsyncIterator[ServerSentEvent]:
        number = len(self._attempts) + 1
        while True:
            try:
                entries: Any = await self._services.redis.xrange(
                    output_key(self._job_id), min=self._entry, count=_MOST_ENTRIES
                )
            except (RedisError, OSError, TimeoutError):
                return
            for entry, fields in entries:
                self._entry = b"(" + entry
                try:
                    output = Output.parse(fields)
                except ValueError:
                    log.warning("live output that is not ours", extra={"job_id": str(self._job_id)})
                    continue
                if output.attempt != self._job.claims:
                    continue
                for event in self._part(number, output):
                    yield event
            if len(entries) < _MOST_ENTRIES:
                return

    def _part(self, number: int, output: Output) -> list[ServerSentEvent]:
        stream: Stream = "stdout" if output.stream == "stdout" else "stderr"
        told = self.place.told(stream)
        # After a gap, the row will tell; so it is with what follows a cut character that was left.
        if output.at > told:
            self._missed.add(stream)
        if stream in self._missed or output.end <= told:
            return []
        part = Part(output.at, output.data).since(told)
        data, told = text_of(part, more=True)
        return [self._output(stream, number, data, told)] if told > part.at else []

    def _output(self, stream: Stream, number: int, data: dict[str, Any], told: int) -> ServerSentEvent:
        self.place = self.place.after(stream, told)
        return self._event(stream, {"attempt": number, **data})

    def _event(self, event: str, data: dict[str, Any]) -> ServerSentEvent:
        text = orjson.dumps(data, option=orjson.OPT_UTC_Z).decode()
        return ServerSentEvent(text, event=event, id=str(self.place))
