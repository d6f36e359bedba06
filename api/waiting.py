"""Waiting for jobs to end: one subscription for the process, however many clients wait.

Messages only save time. A job whose message was lost is found by a look at the database, once a second for
all waiting jobs together (four times a second while the subscription is down).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from uuid import UUID

import redis.asyncio
from redis.exceptions import RedisError

from api.database import Database
from api.problems import Problem
from api.statements import FINAL_AMONG
from domain.bell import OUTPUT_CHANNEL, STATES_CHANNEL, parse_state_message
from domain.states import FINAL_STATES

log = logging.getLogger(__name__)

POLL_S = 1.0
DEAF_POLL_S = 0.25
#: How often a waiting request looks whether its client is still there.
PRESENCE_S = 1.0


class Waiter:
    """One client waiting for one job."""

    def __init__(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """The job has ended, or the service is."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def wait(self, seconds: float, is_gone: Callable[[], Awaitable[bool]]) -> None:
        """Return once woken, or after `seconds`, or when the client is gone."""
        until = time.monotonic() + seconds
        while not self._ended.done():
            left = until - time.monotonic()
            if left <= 0:
                return
            await asyncio.wait((self._ended,), timeout=min(left, PRESENCE_S))
            if not self._ended.done() and await is_gone():
                return


class Watcher:
    """One event stream, woken by whatever happens to its job."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.closed = False

    def wake(self) -> None:
        """Something happened."""
        self._news.set()

    def close(self) -> None:
        """The service ends."""
        self.closed = True
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Return once woken since the last wait, or after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()


class Waiting:
    """All clients that wait."""

    def __init__(self, client: "redis.asyncio.Redis", database: Database, most: int) -> None:
        self._redis = client
        self._database = database
        self._most = most
        self._waiters: dict[UUID, set[Waiter]] = {}
        self._watchers: dict[UUID, set[Watcher]] = {}
        self._channel: Any = None
        self._count = 0
        self._watching = 0
        self._closing = False
        self.listening = False

    @contextmanager
    def register(self, job_id: UUID, *, wanted: bool = True) -> Iterator[Waiter | None]:
        """A waiter for a job; None where none is wanted, too many wait already, or the service ends.

        Register before the job can end, so that its message cannot be missed.
        """
        if not wanted or self._count >= self._most or self._closing:
            yield None
            return
        waiter = Waiter()
        self._waiters.setdefault(job_id, set()).add(waiter)
        self._count += 1
        try:
            yield waiter
        finally:
            self._count -= 1
            others = self._waiters[job_id]
            others.discard(waiter)
            if not others:
                del self._waiters[job_id]

    @property
    def count(self) -> int:
        """How many clients wait."""
        return self._count

    @asynccontextmanager
    async def watch(self, job_id: UUID) -> AsyncIterator[Watcher]:
        """A watcher for a job. While there is any, this process hears of live output."""
        watcher = Watcher()
        watcher.closed = self._closing
        self._watchers.setdefault(job_id, set()).add(watcher)
        self._watching += 1
        if self._watching == 1:
            await self._hear_output(True)
        try:
            yield watcher
        finally:
            self._watching -= 1
            others = self._watchers[job_id]
            others.discard(watcher)
            if not others:
                del self._watchers[job_id]
            if self._watching == 0:
                await self._hear_output(False)

    async def _hear_output(self, wanted: bool) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            await (channel.subscribe if wanted else channel.unsubscribe)(OUTPUT_CHANNEL)
        except (RedisError, OSError, TimeoutError):
            log.warning("live output is looked for, and not heard of")

    @property
    def watching(self) -> int:
        """How many event streams there are."""
        return self._watching

    def __len__(self) -> int:
        """How many clients wait."""
        return self._count

    def close(self) -> None:
        """Send everybody away, and let nobody wait from now on: the service ends."""
        self._closing = True
        for job_id in list(self._waiters):
            self._wake(job_id)
        for watchers in list(self._watchers.values()):
            for watcher in watchers:
                watcher.close()

    def _wake(self, job_id: UUID) -> None:
        for waiter in self._waiters.get(job_id, ()):
            waiter.wake()

    async def listen(self) -> None:
        """Listen for ever; a task of its own."""
        pause = 0.1
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(STATES_CHANNEL, *([OUTPUT_CHANNEL] if self._watching else []))
                    self._channel = channel
                    self.listening, pause = True, 0.1
                    while True:
                        message = await channel.get_message(timeout=5)
                        if message is not None:
                            self._hear(message["channel"], message["data"])
            except (RedisError, OSError, TimeoutError) as error:
                if self.listening:
                    log.warning("the event bus is gone, polling instead: %s", type(error).__name__)
            finally:
                self.listening = False
                self._channel = None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    def _hear(self, channel: bytes, data: bytes) -> None:
        try:
            if channel == OUTPUT_CHANNEL.encode():
                job_id, state = UUID(data.decode()), ""
            else:
                job_id, state = parse_state_message(data.decode())
        except ValueError:
            log.warning("a message on the event bus is not one of ours")
            return
        for watcher in self._watchers.get(job_id, ()):
            watcher.wake()
        if state in FINAL_STATES:
            self._wake(job_id)

    async def poll(self) -> None:
        """Look at the database for ever; a task of its own."""
        while True:
            await asyncio.sleep(POLL_S if self.listening else DEAF_POLL_S)
            if not self._waiters:
                continue
            try:
                ended = await self._database.all(FINAL_AMONG, {"ids": list(self._waiters)})
            except Problem:
                continue  # logged where it was raised; the clients' own reads will tell them
            for (job_id,) in ended:
                self._wake(job_id)
