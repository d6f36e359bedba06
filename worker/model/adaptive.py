"""The adaptive rate: up a little with each success, halved by a 429, and by nothing else.

For gateways whose real limit nobody told us. Requests count in a short sliding window (a second). A window
halves the rate at most once: the calls that were under way when the gateway had enough are one message, not
many. Halving forgets what was sent, as the gateway now says itself when to come back.

The state is a hash: `rate`, `cut_at`; and `:log` (id -> time).
"""

from typing import Any

from worker.model.settings import ModelSettings
from worker.model.shared import us

LUA = """
local function adaptive_wait(key, a, now)
  local rate = tonumber(redis.call('HGET', key, 'rate') or a.initial)
  redis.call('ZREMRANGEBYSCORE', key .. ':log', '-inf', now - a.window)
  local over = redis.call('ZCARD', key .. ':log') + 1 - math.floor(rate)
  if over <= 0 then return 0 end
  return redis.call('ZRANGE', key .. ':log', over - 1, over - 1, 'WITHSCORES')[2] + a.window - now
end

local function adaptive_take(key, a, id, now)
  redis.call('ZADD', key .. ':log', now, id)
  redis.call('PEXPIRE', key .. ':log', a.keep_ms)
end

local function adaptive_report(key, a, id, sent, outcome, limited, now)
  if not sent then return redis.call('ZREM', key .. ':log', id) end
  local got = redis.call('HMGET', key, 'rate', 'cut_at')
  local rate = tonumber(got[1] or a.initial)
  if outcome == 'success' then
    redis.call('HSET', key, 'rate', math.min(a.most, rate + a.step))
  elseif limited and now - (got[2] or 0) >= a.window then
    redis.call('HSET', key, 'rate', math.max(a.least, rate * a.cut), 'cut_at', now)
    redis.call('HINCRBY', key, 'cuts', 1)
    redis.call('DEL', key .. ':log')
  end
  redis.call('PEXPIRE', key, a.keep_ms)
end
"""


def arguments(settings: ModelSettings) -> dict[str, Any]:
    """What the functions call `a`. The rate is forgotten after a quiet hour."""
    return {
        "initial": settings.adaptive_initial,
        "least": settings.adaptive_least,
        "most": settings.adaptive_most,
        "step": settings.adaptive_step,
        "cut": settings.adaptive_cut,
        "window": us(settings.adaptive_window_s),
        "keep_ms": round(1000 * max(3600, 10 * settings.adaptive_window_s)),
    }
