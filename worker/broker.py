"""The one door to the broker: the Celery app, the doorbell, and what is published on it."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import redis
from celery import Celery

from domain.bell import (
    ALL_QUEUES,
    CANCELS_CHANNEL,
    OUTPUT_CHANNEL,
    OUTPUT_ENTRIES,
    OUTPUT_KEPT_S,
    SANDBOX_QUEUE,
    STATES_CHANNEL,
    Output,
    celery_broker_url,
    output_key,
    state_message,
)
from domain.message import Message
from domain.states import State
from worker.places import Amqp

log = logging.getLogger(__name__)

#: Seconds for an answer of the broker; it is near.
TIMEOUT_S = 5


def celery_app(redis_url: str, *, batch_most: int | None = None) -> Celery:
    """The app: late acknowledgement, one message at a time, JSON, nothing stored.

    `batch_most`: messages of batch work that a consumer has at the same time.
    """
    app = Celery("retort", broker=celery_broker_url(redis_url), amqp=Amqp, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            # Else the transport notes each message in Redis until it is acknowledged, four commands a job, to
            # hand it out again an hour after its worker died. Our sweeper rings after seconds.
            "ack_emulation": False,
            # Each queue is one list: without this the transport asks for four of each, one for each priority.
            "priority_steps": [0],
            "batch_most": batch_most,
            "socket_connect_timeout": TIMEOUT_S,
            "socket_timeout": TIMEOUT_S,  # of an answer that is due: BRPOP's is read once it is there
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_acks_late=True,
        task_default_queue=SANDBOX_QUEUE,
        task_ignore_result=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_disable_rate_limits=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app


class Bell:
    """Rings for steps and tells of states. A broker that is away costs time, never a job."""

    def __init__(self, app: Celery, redis_url: str) -> None:
        self._messages = {queue: Message(app.amqp, queue) for queue in ALL_QUEUES}
        self._redis = redis.Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )

    def ring(self, job_id: UUID, queue: str = SANDBOX_QUEUE) -> bool:
        """Ask some worker to do a job's next step; whether the broker took it."""
        try:
            self._redis.lpush(queue, self._messages[queue].of(job_id))
        except (OSError, redis.RedisError) as e:
            log.warning("could not ring for a job; the sweeper will: %s", e, extra={"job_id": str(job_id)})
            return False
        return True

    def queued(self, job_id: UUID, queue: str) -> None:
        """Tell that a job waits for its next step, and ring for it, in one round trip."""
        try:
            with self._redis.pipeline(transaction=False) as sent:
                sent.publish(STATES_CHANNEL, state_message(job_id, State.QUEUED))
                sent.lpush(queue, self._messages[queue].of(job_id))
                sent.execute()
        except (OSError, redis.RedisError) as e:
            log.warning("could not ring for a job; the sweeper will: %s", e, extra={"job_id": str(job_id)})

    def tell(self, job_id: UUID, state: State) -> None:
        """Publish a job's new state."""
        try:
            self._redis.publish(STATES_CHANNEL, state_message(job_id, state))
        except (OSError, redis.RedisError) as e:
            log.warning("could not publish a state; clients will poll: %s", e, extra={"job_id": str(job_id)})

    def show(self, job_id: UUID, parts: list[Output]) -> bool:
        """Add to a job's live output, and tell that there is more; whether the broker took it."""
        key = output_key(job_id)
        try:
            with self._redis.pipeline(transaction=False) as sent:
                for part in parts:
                    fields: Any = part.fields()
                    sent.xadd(key, fields, maxlen=OUTPUT_ENTRIES, approximate=False)
                sent.expire(key, OUTPUT_KEPT_S)
                sent.publish(OUTPUT_CHANNEL, str(job_id))
                sent.execute()
        except (OSError, redis.RedisError) as e:
            log.warning("could not publish output: %s", e, extra={"job_id": str(job_id)})
            return False
        return True

    def cancels(self, stopped: Callable[[], bool]) -> Iterator[UUID]:
        """Ids of jobs that were cancelled while a worker had them, until stopped; a lost one costs time."""
        away = False
        while not stopped():
            try:
                pubsub: Any = self._redis.pubsub
                with pubsub(ignore_subscribe_messages=True) as channel:
                    channel.subscribe(CANCELS_CHANNEL)
                    away = False
                    while not stopped():
                        message = channel.get_message(timeout=1.0)
                        if message is not None:
                            yield from _ids(message["data"])
            except (OSError, redis.RedisError) as e:
                if not away:
                    log.warning("cancelled jobs are not told at once, but noticed at heartbeats: %s", e)
                away = True
                time.sleep(1.0)

    def waiting(self, *queues: str) -> int | None:
        """Messages in these queues (all, if none is named) that nobody took; None while the broker is away."""
        depths = self.depths(*queues)
        return None if depths is None else sum(depths.values())

    def depths(self, *queues: str) -> dict[str, int] | None:
        """The same for each queue by itself."""
        asked = queues or ALL_QUEUES
        try:
            with self._redis.pipeline(transaction=False) as asking:
                for queue in asked:
                    asking.llen(queue)
                found: list[Any] = asking.execute()
            return dict(zip(asked, map(int, found), strict=True))
        except (OSError, redis.RedisError):
            return None

    def close(self) -> None:
        """Hang up."""
        self._redis.close()


def _ids(data: bytes) -> Iterator[UUID]:
    """The id that a message is; none, where it is something else."""
    try:
        yield UUID(data.decode())
    except ValueError:
        log.warning("a message on the channel of cancelled jobs is not one of ours")
