"""The circuit breaker: a gateway that is unwell is left alone, then probed by one call.

    CLOSED  --threshold failures in a row-->  OPEN  --timeout passed, first call-->  HALF_OPEN
    HALF_OPEN  --the probe got an answer-->  CLOSED;   HALF_OPEN  --the probe failed-->  OPEN

Every success in CLOSED clears the count: only failures with no success between them open it. In HALF_OPEN
exactly one call is out, whatever the number of processes; if its process dies, another probes when the lease
ends. Every change of state begins a new epoch, and a report of a call that entered in an earlier epoch is
ignored: a failure that comes late neither opens a breaker that has closed since, nor keeps one open for
longer.

Outcomes: `success`; `failure`; `answered` (refused for reasons of its own, as with 429: neither clears nor
counts, but a probe that is answered has shown that somebody is there); `fatal` (the key or the account is
wrong: opens at once); `abandoned` (we ended it ourselves, so nothing is known: the next call probes).

The state is a hash: `state` (absent: closed), `failures`, `since`, `probe_until`, `epoch`, and for people
`opens`, `probes`, `why`. `arguments` are what the functions below call `b`.
"""

from typing import Any

from worker.model.settings import ModelSettings
from worker.model.shared import us

LUA = """
-- May a call enter? 'closed' or 'probe', or 'no' and the microseconds until it makes sense to ask again.
local function breaker_look(key, b, now)
  local got = redis.call('HMGET', key, 'state', 'since', 'probe_until')
  if got[1] == 'open' then
    local left = got[2] + b.timeout - now
    if left > 0 then return 'no', left end
    return 'probe', 0
  elseif got[1] == 'half' then
    local left = got[3] - now
    if left > 0 then return 'no', math.min(left, b.poll) end
    return 'probe', 0
  end
  return 'closed', 0
end

-- The call enters; its epoch.
local function breaker_enter(key, b, now, verdict)
  if verdict == 'closed' then return tonumber(redis.call('HGET', key, 'epoch') or '0') end
  redis.call('HSET', key, 'state', 'half', 'probe_until', now + b.lease)
  redis.call('HINCRBY', key, 'probes', 1)
  redis.call('PEXPIRE', key, b.keep_ms)
  return redis.call('HINCRBY', key, 'epoch', 1)
end

-- The probe is alive.
local function breaker_renew(key, b, now, epoch)
  local got = redis.call('HMGET', key, 'state', 'epoch')
  if got[1] == 'half' and tonumber(got[2]) == epoch then
    redis.call('HSET', key, 'probe_until', now + b.lease)
  end
end

local function breaker_open(key, b, since, why)
  redis.call('HSET', key, 'state', 'open', 'since', since, 'why', why)
  redis.call('HDEL', key, 'failures', 'probe_until')
  redis.call('HINCRBY', key, 'epoch', 1)
  redis.call('PEXPIRE', key, b.keep_ms)
end

local function breaker_report(key, b, now, epoch, outcome, why)
  local got = redis.call('HMGET', key, 'state', 'epoch')
  if tonumber(got[2] or '0') ~= epoch then return end
  if got[1] == 'half' then
    if outcome == 'success' or outcome == 'answered' then
      redis.call('HDEL', key, 'state', 'failures', 'since', 'probe_until', 'why')
      redis.call('HINCRBY', key, 'epoch', 1)
    elseif outcome == 'abandoned' then
      breaker_open(key, b, now - b.timeout, why)
    else
      redis.call('HINCRBY', key, 'opens', 1)
      breaker_open(key, b, now, why)
    end
  elseif outcome == 'success' then
    redis.call('HDEL', key, 'failures')
  elseif outcome == 'failure' or outcome == 'fatal' then
    local failures = redis.call('HINCRBY', key, 'failures', 1)
    redis.call('PEXPIRE', key, b.keep_ms)
    if outcome == 'fatal' or failures >= b.threshold then
      redis.call('HINCRBY', key, 'opens', 1)
      breaker_open(key, b, now, why)
    end
  end
end
"""


def arguments(settings: ModelSettings) -> dict[str, Any]:
    """What the functions call `b`. The state is forgotten when nothing happened for long."""
    return {
        "threshold": settings.breaker_threshold,
        "timeout": us(settings.breaker_timeout_s),
        "lease": us(settings.lease_s),
        "poll": us(settings.poll_s),
        "keep_ms": round(1000 * max(3600, 10 * (settings.breaker_timeout_s + settings.lease_s))),
    }
