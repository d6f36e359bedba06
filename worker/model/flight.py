"""Single flight: of identical calls under way at the same time, one is made and all get its answer.

Across processes by a lock with a lease in Redis, within a process by waiting for each other. Only successes
are shared. If the one who asks fails, ends or dies, one of those who wait takes over. An answer is only for
those who came while it was under way: who comes later asks again (to keep answers is the cache's work, and
must be asked for).

The caller is part of the key, so nothing is shared between callers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

from worker.model.settings import ModelSettings
from worker.model.shared import Script, Shared, SharedDown, kept_alive, us

#: Longer answers are not shared: each asks for itself.
MOST_CHARS = 1_000_000

_JOIN = Script("""
local x = cjson.decode(ARGV[1])
if redis.call('SET', KEYS[1], x.token, 'NX', 'PX', x.lease_ms) then return x.token end
return redis.call('GET', KEYS[1])
""")

# The answer of a leader; else whether it still leads.
_LOOK = Script("""
local x = cjson.decode(ARGV[1])
local answer = redis.call('GET', KEYS[1] .. ':' .. x.leader)
return {answer or '', redis.call('GET', KEYS[1]) == x.leader and 1 or 0}
""")

_RENEW = Script("""
local x = cjson.decode(ARGV[1])
if redis.call('GET', KEYS[1]) == x.token then redis.call('PEXPIRE', KEYS[1], x.lease_ms) end
""")

_LAND = Script("""
local x = cjson.decode(ARGV[1])
if redis.call('GET', KEYS[1]) == x.token then redis.call('DEL', KEYS[1]) end
if x.answer ~= '' then redis.call('SET', KEYS[1] .. ':' .. x.token, x.answer, 'PX', x.keep_ms) end
""")


class Flights:
    """Calls under way, by key."""

    def __init__(self, shared: Shared, settings: ModelSettings) -> None:
        self._shared = shared
        self._settings = settings
        self._here: dict[str, asyncio.Future[str | None]] = {}

    async def fly(self, key: str, make: Callable[[], Awaitable[str]]) -> str:
        """The answer to the call `key`: from `make`, or from who makes the same call now.

        Raises:
            SharedDown: nobody can say who flies.
            whatever `make` raises.
        """
        while (ours := self._here.get(key)) is not None:
            # Someone in this process flies or waits for another process.
            if (answer := await asyncio.shield(ours)) is not None:
                return answer
        landed = self._here[key] = asyncio.get_running_loop().create_future()
        answer = None
        try:
            answer = await self._with_others(f"flight:{key}", make)
        finally:
            del self._here[key]
            landed.set_result(answer)
        return answer

    async def _with_others(self, key: str, make: Callable[[], Awaitable[str]]) -> str:
        token = uuid4().hex
        lease_ms = us(self._settings.lease_s) // 1000
        while True:
            leader = await self._shared.run(_JOIN, [key], {"token": token, "lease_ms": lease_ms})
            if leader == token:
                return await self._lead(key, token, make)
            if leader is not None and (answer := await self._follow(key, leader)):
                return answer

    async def _follow(self, key: str, leader: str) -> str | None:
        """The leader's answer; None when it leads no longer."""
        while True:
            answer, leads = await self._shared.run(_LOOK, [key], {"leader": leader})
            if answer or not leads:
                return str(answer) or None
            await asyncio.sleep(self._settings.flight_poll_s)

    async def _lead(self, key: str, token: str, make: Callable[[], Awaitable[str]]) -> str:
        answer = ""
        try:
            argument = {"token": token, "lease_ms": us(self._settings.lease_s) // 1000}
            async with kept_alive(lambda: self._shared.run(_RENEW, [key], argument), self._settings.lease_s):
                answer = await make()
        finally:
            shared = answer if len(answer) <= MOST_CHARS else ""
            keep_ms = us(self._settings.flight_keep_s) // 1000
            land = self._shared.run(_LAND, [key], {"token": token, "answer": shared, "keep_ms": keep_ms})
            with suppress(SharedDown):  # the lease will end
                await asyncio.shield(asyncio.ensure_future(land))
        return answer
