"""Buckets: how many requests and tokens a window (a minute) takes, and how many requests may be under way at
once.

A call reserves a request and the tokens it may need at most, in all its buckets or in none; when it ends it
settles to the tokens that were used. What was reserved and what was used counts in a sliding window, so that
no window of the gateway's, wherever it begins, can see more than the limit. A gateway counts a request when
it arrives, which we do not see: it lies between reserving and settling, and within `transit`. A request
therefore counts until a window after it was settled, or after `transit` if that is sooner. A failed request
counts as one; its tokens are given back.

Of each bucket: `:log` (id -> time from which its window runs), `:tokens` (id -> tokens, and their `sum`),
`:fly` (id -> end of its lease), all forgotten a window after their last use.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from domain.catalogue import Bucket
from worker.model.settings import ModelSettings
from worker.model.shared import us

LUA = """
local function bucket_drop(key, ids)
  for _, id in ipairs(ids) do
    local tokens = redis.call('HGET', key .. ':tokens', id)
    if tokens then
      redis.call('HINCRBY', key .. ':tokens', 'sum', -tokens)
      redis.call('HDEL', key .. ':tokens', id)
    end
    redis.call('ZREM', key .. ':log', id)
  end
end

local function bucket_trim(key, l, now)
  bucket_drop(key, redis.call('ZRANGEBYSCORE', key .. ':log', '-inf', now - l.window))
  redis.call('ZREMRANGEBYSCORE', key .. ':fly', '-inf', now)
end

-- 0: the call fits. Else microseconds until it may, and what is short. -1: it never will, unless the limit is
-- lenient: then it fits once nothing else is in the window.
local function bucket_wait(key, l, tokens, now)
  if l.tokens and tokens > l.tokens then
    if not l.lenient then return -1, 'tokens' end
    tokens = l.tokens
  end
  bucket_trim(key, l, now)
  local log = key .. ':log'
  local wait, why = 0, ''
  if l.requests then
    local over = redis.call('ZCARD', log) + 1 - l.requests
    if over > 0 then
      local at = redis.call('ZRANGE', log, over - 1, over - 1, 'WITHSCORES')[2]
      wait, why = at + l.window - now, 'requests'
    end
  end
  if l.tokens then
    local short = (redis.call('HGET', key .. ':tokens', 'sum') or 0) + tokens - l.tokens
    local from = 0
    while short > 0 do
      local some = redis.call('ZRANGE', log, from, from + 99, 'WITHSCORES')
      if #some == 0 then break end
      for i = 1, #some, 2 do
        short = short - (redis.call('HGET', key .. ':tokens', some[i]) or 0)
        if short <= 0 then
          local left = some[i + 1] + l.window - now
          if left > wait then wait, why = left, 'tokens' end
          break
        end
      end
      from = from + 100
    end
  end
  if wait == 0 and l.burst and redis.call('ZCARD', key .. ':fly') >= l.burst then
    return l.poll, 'burst'
  end
  return wait, why
end

local function bucket_keep(key, l)
  for _, part in ipairs({':log', ':tokens', ':fly'}) do
    redis.call('PEXPIRE', key .. part, l.keep_ms)
  end
end

local function bucket_take(key, l, id, tokens, now)
  redis.call('ZADD', key .. ':log', now + l.transit, id)
  redis.call('HSET', key .. ':tokens', id, tokens)
  redis.call('HINCRBY', key .. ':tokens', 'sum', tokens)
  if l.burst then redis.call('ZADD', key .. ':fly', now + l.lease, id) end
  bucket_keep(key, l)
end

local function bucket_renew(key, l, id, now)
  if l.burst then redis.call('ZADD', key .. ':fly', 'XX', now + l.lease, id) end
  bucket_keep(key, l)
end

-- The call ended. What was never sent does not count at all.
local function bucket_settle(key, l, id, tokens, sent, now)
  redis.call('ZREM', key .. ':fly', id)
  if not sent then return bucket_drop(key, {id}) end
  local reserved = redis.call('HGET', key .. ':tokens', id)
  if not reserved then return end
  redis.call('HSET', key .. ':tokens', id, tokens)
  redis.call('HINCRBY', key .. ':tokens', 'sum', tokens - reserved)
  redis.call('ZADD', key .. ':log', 'LT', now, id)
end
"""


#: How the names of callers' own limits begin.
CALLER = "caller:"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that calls share: of requests and of tokens per window, and of requests under way. None: none.

    `lenient`: a call that may need more tokens than a window has is let in alone, rather than never.
    """

    name: str
    requests: int | None = None
    tokens: int | None = None
    burst: int | None = None
    window_s: float = 60.0
    lenient: bool = False

    def arguments(self, settings: ModelSettings) -> dict[str, Any]:
        """What the functions call `l`."""
        given = {"requests": self.requests, "tokens": self.tokens, "burst": self.burst}
        return {
            **{key: value for key, value in given.items() if value is not None},
            "lenient": self.lenient,
            "window": us(self.window_s),
            "transit": us(settings.transit_s),
            "lease": us(settings.lease_s),
            "poll": us(settings.poll_s),
            "keep_ms": round(1000 * (self.window_s + settings.transit_s + settings.lease_s + 60)),
        }


def limits_of(buckets: Iterable[Bucket], settings: ModelSettings) -> tuple[Limit, ...]:
    """A gateway's buckets as limits."""
    return tuple(Limit(each.name, each.rpm, each.tpm, each.burst, settings.window_s) for each in buckets)


def limits_of_caller(caller: str, tokens: int | None, settings: ModelSettings) -> tuple[Limit, ...]:
    """What one caller may send, whatever the model: so many calls per window with a burst of more at once, and
    so many `tokens`, in and out, a minute."""
    found = []
    if settings.caller_requests is not None:
        # A burst of 20 at 10 a second is 20 in two seconds: the same rate, seen through a wider window.
        most = max(settings.caller_requests, settings.caller_burst)
        window_s = settings.caller_window_s * most / settings.caller_requests
        found.append(Limit(f"{CALLER}{caller}", requests=most, window_s=window_s))
    if tokens is not None:
        name = f"{CALLER}{caller}/tokens"
        found.append(Limit(name, tokens=tokens, window_s=settings.window_s, lenient=True))
    return tuple(found)
