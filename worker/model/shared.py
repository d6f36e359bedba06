"""The door to Redis for what all worker processes share: scripts, each one atomic step, on Redis's clock.

Scripts derive further keys from those they are given, so a Redis cluster will not do (nor would it for the
broker).
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

#: Every key of the model front end begins so.
PREFIX = "retort:model:"

#: One thread uses them, so a few are enough; a thousand calls that come together stand in a queue for them.
CONNECTIONS = 16
QUEUE_S = 60.0

#: For the scripts: microseconds of Redis's clock.
NOW = """
local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
"""

Value = str | int | float | bool | None
Argument = Mapping[str, Any] | Sequence[Any] | Value


class SharedDown(Exception):
    """Redis gave no answer, so nothing may be admitted."""


class Script:
    """A Lua script. It finds its argument as JSON in ARGV[1]."""

    def __init__(self, *parts: str) -> None:
        self.text = "\n".join((NOW, *parts))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Shared:
    """A pool of connections to Redis, of one event loop."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=QUEUE_S,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            decode_responses=True,
        )
        self._client = redis.asyncio.Redis.from_pool(pool)

    async def run(self, script: Script, keys: Sequence[str], argument: Argument = None) -> Any:
        """Run a script.

        Raises:
            SharedDown: Redis is away, or refuses.
        """
        values = (*(PREFIX + key for key in keys), json.dumps(argument))
        try:
            try:
                return await self._client.evalsha(script.sha, len(keys), *values)
            except NoScriptError:
                return await self._client.eval(script.text, len(keys), *values)
        except (OSError, RedisError) as e:
            raise SharedDown(f"Redis gave no answer: {e}") from e

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()


@asynccontextmanager
async def kept_alive(renew: Callable[[], Awaitable[object]], lease_s: float) -> AsyncIterator[None]:
    """Renew a lease, three times in its length, until the block ends."""

    ended = False

    async def beat() -> None:
        # A flag besides cancelling: before Python 3.12 `wait_for`, in the Redis client, may swallow that.
        while not ended:
            await asyncio.sleep(lease_s / 3)
            with suppress(SharedDown):  # the next beat may get through
                await renew()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        ended = True
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


def us(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1_000_000)
