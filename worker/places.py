"""Which queues a worker reads: those of steps that it can do now, and of batch work while that has a place.

A message that is read and cannot be served is gone, and its job waits for the sweeper; so a worker that cannot
run programs yet, or not at the moment, leaves them to others.

Batch work has fewer places than there are, so that who asks for one job finds one free. A thread cannot be
taken from a job, so it is the consumer that must leave one: it takes messages of batch work only while fewer
than `batch_most` of them are under way. A read that waits without the queues of batch work is ended as soon as
one of their messages is: else the place would stay empty until the read times out.
"""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

from celery.app.amqp import AMQP
from kombu import connection
from kombu.transport import redis as transport
from kombu.utils.scheduling import round_robin_cycle

from domain.bell import BATCH_SUFFIX

#: A list that is always empty: who reads nothing else looks again when the read times out.
NOTHING = "retort.nothing"

#: Seconds for which it reads that.
_LOOK_S = 0.25


class BatchLast(round_robin_cycle):
    """The order in which queues are looked at: in turn, those of batch work after all others; some are not."""

    #: What is read at all.
    reads: Collection[str] = ()

    def consume(self, n: int) -> list[str]:
        """The queues in order."""
        found = sorted((each for each in self.items[:n] if each in self.reads), key=_is_batch)
        return found or [NOTHING]


def _is_batch(queue: object) -> bool:
    return str(queue).endswith(BATCH_SUFFIX)


_Channel: Any = transport.Channel  # its types are not all there


class Channel(_Channel):  # type: ignore[misc]
    """Reads messages of the queues that are open; of batch work, no more than so many are with us at a time.

    All of it is called from the thread of Celery's event loop.
    """

    queue_order_strategy = f"{__name__}:{BatchLast.__name__}"
    batch_most: int | None = None
    open_queues: Callable[[], Iterable[str]] | None = None
    from_transport_options = (*_Channel.from_transport_options, "batch_most", "open_queues")

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._batch: set[str] = set()
        self._client_id = 0
        self._without_batch = False
        super().__init__(*arguments, **more)

    @property
    def _full(self) -> bool:
        return self.batch_most is not None and len(self._batch) >= self.batch_most

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **more: Any
    ) -> Any:
        """Take messages of a queue from now on, and remember which of batch work are with us."""

        def remembered(message: Any) -> Any:
            self._batch.add(message.delivery_tag)
            return callback(message)

        chosen = remembered if _is_batch(queue) and not no_ack else callback
        return super().basic_consume(queue, no_ack, callback=chosen, consumer_tag=consumer_tag, **more)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """A message is done with."""
        super().basic_ack(delivery_tag, multiple)
        self._gone(delivery_tag)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """A message is no use."""
        super().basic_reject(delivery_tag, requeue)
        self._gone(delivery_tag)

    def _gone(self, delivery_tag: str) -> None:
        self._batch.discard(delivery_tag)
        if self._in_poll and self._without_batch and not self._full:
            # If it cannot be said, the read ends by itself within `brpop_timeout`.
            with suppress(self.ResponseError, *self.connection_errors), self.conn_or_acquire() as client:
                client.client_unblock(self._client_id)

    def _brpop_start(self, timeout: float | None = None) -> None:
        self._without_batch = self._full
        opened = self.active_queues if self.open_queues is None else self.open_queues()
        reads = {each for each in opened if not (self._without_batch and _is_batch(each))}
        self._queue_cycle.reads = reads
        if self._without_batch:
            # Asked for each time, as the connection may be another one by now.
            connection = self.client.connection
            connection.send_command("CLIENT", "ID")
            self._client_id = 0
            with suppress(self.ResponseError):  # it is a command that a user of the broker may be denied
                self._client_id = connection.read_response()
        super()._brpop_start(timeout if reads else _LOOK_S)


class Transport(transport.Transport):
    """Redis, read by such channels."""

    Channel = Channel


_Connection: Any = connection.Connection


class Connection(_Connection):  # type: ignore[misc]
    """A connection to the broker that is read by such channels."""

    def get_transport_cls(self) -> type[Transport]:
        """Ours, whatever way the address is written."""
        return Transport


class Amqp(AMQP):  # type: ignore[misc]
    """What an app speaks with its broker through: give it as its `amqp`."""

    Connection = Connection
