"""The places that batch work may have: fewer than there are, so that who asks for one job finds one free.

A thread cannot be taken from a job, so it is the consumer that must leave one. It takes messages of batch work
only while fewer than `batch_most` of them are under way; those of other queues as long as a thread is free. A
read that waits without the queues of batch work is ended as soon as one of their messages is: else the place
would stay empty until the read times out.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.app.amqp import AMQP
from kombu import connection
from kombu.transport import redis as transport
from kombu.utils.scheduling import round_robin_cycle

from domain.bell import BATCH_SUFFIX


class BatchLast(round_robin_cycle):
    """The order in which queues are looked at: in turn, those of batch work after all others or not at all."""

    without_batch = False

    def consume(self, n: int) -> list[str]:
        """The queues in order."""
        queues = sorted(self.items[:n], key=_is_batch)
        return [queue for queue in queues if not (self.without_batch and _is_batch(queue))]


def _is_batch(queue: object) -> bool:
    return str(queue).endswith(BATCH_SUFFIX)


_Channel: Any = transport.Channel  # its types are not all there


class Channel(_Channel):  # type: ignore[misc]
    """Reads messages; of batch work, no more than so many are with us at the same time.

    All of it is called from the thread of Celery's event loop.
    """

    queue_order_strategy = f"{__name__}:{BatchLast.__name__}"
    batch_most: int | None = None
    from_transport_options = (*_Channel.from_transport_options, "batch_most")

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._batch: set[str] = set()
        self._client_id = 0
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
        if self._in_poll and self._queue_cycle.without_batch and not self._full:
            # If it cannot be said, the read ends by itself within `brpop_timeout`.
            with suppress(self.ResponseError, *self.connection_errors), self.conn_or_acquire() as client:
                client.client_unblock(self._client_id)

    def _brpop_start(self, timeout: int | None = None) -> None:
        self._queue_cycle.without_batch = self._full
        if self._full:
            # Asked for each time, as the connection may be another one by now.
            connection = self.client.connection
            connection.send_command("CLIENT", "ID")
            self._client_id = 0
            with suppress(self.ResponseError):  # it is a command that a user of the broker may be denied
                self._client_id = connection.read_response()
        super()._brpop_start(timeout)


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
