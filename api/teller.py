"""Telling the others what the API itself did to a job: on the event bus, which may be away."""

import logging
from uuid import UUID

import redis.asyncio
from redis.exceptions import RedisError

from domain.bell import CANCELS_CHANNEL, STATES_CHANNEL, state_message
from domain.states import State

log = logging.getLogger(__name__)


class Teller:
    """Publishes; what is not heard is found out by a look at the database."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def cancelled(self, *job_ids: UUID, was_leased: bool) -> None:
        """Jobs were cancelled, perhaps while a worker had them."""
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    if was_leased:
                        pipeline.publish(CANCELS_CHANNEL, str(job_id))
                    pipeline.publish(STATES_CHANNEL, state_message(job_id, State.CANCELLED))
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning(
                "could not tell of a cancelled job; its worker notices at its next heartbeat: %s",
                type(error).__name__,
                extra={"job_id": str(job_ids[0])},
            )
