"""Ringing for workers: the producer's side of Celery, without its cost per message (`domain.message`), and
without a thread to do its blocking I/O in.

The database is the queue of record, so a ring may be lost: the row is committed, and the workers' sweeper
rings again for a job that nobody took. A dead broker therefore costs a request nothing.
"""

import asyncio
import logging
from collections import deque
from uuid import UUID

import redis.asyncio
from celery import Celery
from redis.exceptions import RedisError

from domain.bell import ALL_QUEUES, BATCH_SUFFIX, SANDBOX_QUEUE, celery_broker_url
from domain.message import Message

log = logging.getLogger(__name__)

_MOST_WAITING = 10_000
_MOST_AT_ONCE = 100
_MOST_BATCH_AT_ONCE = 25  # 1 ms of work, for which whoever rings next may have to wait


def producer(redis_url: str) -> Celery:
    """The Celery application as a producer sees it."""
    app = Celery("retort", broker=celery_broker_url(redis_url), set_as_current=False)
    app.conf.update(task_serializer="json", accept_content=["json"], task_ignore_result=True)
    return app


class Bell:
    """Rings for jobs in the order they came, as many in one round trip as there are."""

    def __init__(self, client: "redis.asyncio.Redis", app: Celery) -> None:
        self._redis = client
        self._messages = {queue: Message(app.amqp, queue) for queue in ALL_QUEUES}
        self._waiting: deque[tuple[UUID, str]] = deque(maxlen=_MOST_WAITING)
        self._can_wait: deque[tuple[UUID, str]] = deque(maxlen=_MOST_WAITING)
        self._something = asyncio.Event()
        self._broken = False

    def ring(self, job_id: UUID, queue: str = SANDBOX_QUEUE) -> None:
        """Ask for a worker; returns at once, never fails."""
        (self._can_wait if queue.endswith(BATCH_SUFFIX) else self._waiting).append((job_id, queue))
        self._something.set()

    async def run(self) -> None:
        """Ring for ever; a task of its own."""
        while True:
            await self._something.wait()
            await self.flush()

    async def flush(self) -> None:
        """Ring for all that wait."""
        self._something.clear()
        while self._waiting or self._can_wait:
            # Batch work rings while nobody else does.
            line, most = (
                (self._waiting, _MOST_AT_ONCE) if self._waiting else (self._can_wait, _MOST_BATCH_AT_ONCE)
            )
            batch = [line.popleft() for _ in range(min(len(line), most))]
            try:
                for queue in dict.fromkeys(queue for _, queue in batch):
                    ids = (job_id for job_id, its in batch if its == queue)
                    # Workers take from the right, so the last of these arguments is the last to be taken.
                    await self._redis.lpush(queue, *map(self._messages[queue].of, ids))
            except (RedisError, OSError, TimeoutError) as error:
                # Dropped, not kept: the sweeper knows these jobs, and a broker that comes back to a heap
                # of old rings would only deliver them twice.
                if not self._broken:
                    log.warning(
                        "the broker does not answer; workers will find jobs themselves: %s",
                        type(error).__name__,
                    )
                self._broken = True
            else:
                if self._broken:
                    log.warning("the broker answers again")
                self._broken = False
