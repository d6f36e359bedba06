"""Requests per second of each caller: a token bucket.

The bucket is in Redis, shared by all API processes, and changed in one atomic step. Asking it for every
request would cost a round trip each, so a process takes the tokens of a twentieth of a second at once, and
gives back what it did not need with its next question. Callers with few requests per second take one at a time.
While Redis is away nobody is limited: a service that stands still protects nobody.
"""

import logging
import math
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import redis.asyncio
from redis.exceptions import RedisError

from api.auth import Caller
from api.problems import Kind, Problem
from domain.quotas import Quotas

log = logging.getLogger(__name__)

#: Tokens of so many seconds are taken at once, and kept for no longer than twice that.
TAKE_S = 0.05

_MOST_REMEMBERED = 10_000

#: rate, burst, wanted, given back -> tokens granted, whole tokens left, seconds until there is one.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if held[1] then
  tokens = tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * rate + tonumber(ARGV[4])
  tokens = math.min(burst, tokens)
end
local granted = math.min(tonumber(ARGV[3]), math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
local wait = 0
if granted == 0 then wait = (1 - tokens) / rate end
return {granted, math.floor(tokens), tostring(wait)}
"""


@dataclass(slots=True)
class Stock:
    """Tokens taken for one caller: how many are at hand, until when, and how many were left in the bucket."""

    at_hand: int
    until: float
    left: int


Headers = list[tuple[bytes, bytes]]


class Rates:
    """The callers' buckets, as one process sees them."""

    def __init__(self, client: "redis.asyncio.Redis", defaults: Quotas) -> None:
        self._defaults = defaults
        self._take: Any = client.register_script(_TAKE)
        self._stocks: dict[UUID, Stock] = {}
        self._away = False

    async def admit(self, caller: Caller) -> Headers:
        """Take a token for one request; the headers that tell how many there are.

        Raises:
            Problem: 429, there is none.
        """
        rate = caller.quotas.requests_per_s or self._defaults.requests_per_s
        if not rate:
            return []
        burst = self._burst(caller.quotas, rate)
        stock = self._stocks.get(caller.id)
        now = time.monotonic()
        if stock is None or stock.at_hand < 1 or stock.until < now:
            back = stock.at_hand if stock is not None else 0
            if stock is not None:
                stock.at_hand = 0
            try:
                stock = await self._refill(caller.id, rate, burst, back)
            except (RedisError, OSError, TimeoutError) as error:
                self._note(away=True, why=type(error).__name__)
                return []
            self._note(away=False)
        stock.at_hand -= 1
        return _headers(burst, stock.at_hand + stock.left, rate)

    def _burst(self, quotas: Quotas, rate: float) -> int:
        if quotas.burst is not None:
            return quotas.burst
        if quotas.requests_per_s is not None or self._defaults.burst is None:
            return max(1, math.ceil(2 * rate))
        return self._defaults.burst

    async def _refill(self, caller_id: UUID, rate: float, burst: int, back: int) -> Stock:
        wanted = max(1, int(min(rate * TAKE_S, burst / 4)))
        keys = [f"retort:rate:{caller_id}"]
        granted, left, wait = await self._take(keys=keys, args=[rate, burst, wanted, back])
        if granted < 1:
            seconds = math.ceil(max(float(wait), 0.001))
            raise Problem(
                Kind.RATE_LIMITED,
                f"this caller may send {rate:g} requests a second, and {burst} at once; "
                f"wait {float(wait):.3f} s",
                headers={
                    "Retry-After": str(seconds),
                    **{name.decode(): value.decode() for name, value in _headers(burst, 0, rate)},
                },
            )
        if len(self._stocks) >= _MOST_REMEMBERED:
            self._stocks.clear()  # the tokens at hand are lost; they grow again
        stock = Stock(granted, time.monotonic() + 2 * TAKE_S, left)
        before = self._stocks.get(caller_id)
        if before is not None:
            stock.at_hand += before.at_hand  # others asked at the same time
        self._stocks[caller_id] = stock
        return stock

    def _note(self, *, away: bool, why: str = "") -> None:
        if away != self._away:
            self._away = away
            if away:
                log.warning("nobody's requests are limited while Redis is away: %s", why)
            else:
                log.warning("requests are limited again")


def _headers(burst: int, left: int, rate: float) -> Headers:
    reset = math.ceil(max(0, burst - left) / rate)
    return [
        (b"ratelimit-limit", b"%d" % burst),
        (b"ratelimit-remaining", b"%d" % max(0, left)),
        (b"ratelimit-reset", b"%d" % reset),
    ]
