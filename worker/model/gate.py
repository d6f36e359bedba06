"""The gate before every call: breaker, pause, adaptive rate and buckets, entered and left in one atomic step
each.

`admit` lets a call through all of them or through none and then says for how long; `report` tells all of them
how it ended. A pause is what a gateway asked for with Retry-After: it holds for everybody, not only for the
call that was told.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from worker.model import adaptive, breaker, buckets
from worker.model.buckets import CALLER, Limit
from worker.model.settings import ModelSettings
from worker.model.shared import Script, Shared, SharedDown, kept_alive, us

log = logging.getLogger(__name__)

Outcome = Literal["success", "failure", "answered", "fatal", "abandoned"]

_HEAD = """
local x = cjson.decode(ARGV[1])
local now = now_us()
"""

_LOOK = """
-- Why a call must wait: what, microseconds, detail; nil if it need not.
local function look(x, now, breaker_key, pause_key, rate_key)
  local verdict, wait = breaker_look(breaker_key, x.breaker, now)
  if verdict == 'no' then
    local state = redis.call('HGET', breaker_key, 'state')
    return verdict, state, wait, redis.call('HGET', breaker_key, 'why') or ''
  end
  local pause = tonumber(redis.call('GET', pause_key) or 0) - now
  if pause > 0 then return verdict, 'pause', pause, '' end
  local longest, what, detail = adaptive_wait(rate_key, x.adaptive, now), 'rate', ''
  for i, l in ipairs(x.limits) do
    local left, why = bucket_wait(KEYS[3 + i], l, x.tokens, now)
    if left < 0 then return verdict, 'never', 0, l.name end
    if left > longest then longest, what, detail = left, why, l.name end
  end
  if longest > 0 then return verdict, what, longest, detail end
  return verdict, nil, 0, ''
end
"""

_LUA = (breaker.LUA, buckets.LUA, adaptive.LUA)

#: KEYS: breaker, pause, rate, then one per limit.
_ADMIT = Script(
    *_LUA,
    _LOOK,
    _HEAD,
    """
local verdict, what, wait, detail = look(x, now, KEYS[1], KEYS[2], KEYS[3])
if what then return {what, math.ceil(wait), detail} end
if x.dry then return {'free', 0, ''} end
adaptive_take(KEYS[3], x.adaptive, x.id, now)
for i, l in ipairs(x.limits) do bucket_take(KEYS[3 + i], l, x.id, x.tokens, now) end
return {verdict, breaker_enter(KEYS[1], x.breaker, now, verdict), ''}
""",
)

_RENEW = Script(
    *_LUA,
    _HEAD,
    """
breaker_renew(KEYS[1], x.breaker, now, x.epoch)
for i, l in ipairs(x.limits) do bucket_renew(KEYS[3 + i], l, x.id, now) end
""",
)

_REPORT = Script(
    *_LUA,
    _HEAD,
    """
breaker_report(KEYS[1], x.breaker, now, x.epoch, x.outcome, x.why)
adaptive_report(KEYS[3], x.adaptive, x.id, x.sent, x.outcome, x.limited, now)
for i, l in ipairs(x.limits) do bucket_settle(KEYS[3 + i], l, x.id, x.tokens, x.sent, now) end
if x.pause > 0 then
  local till = math.max(now + x.pause, tonumber(redis.call('GET', KEYS[2]) or 0))
  redis.call('SET', KEYS[2], till, 'PX', math.ceil((till - now) / 1000))
end
""",
)

_STATE = Script("""
local got = redis.call('HMGET', KEYS[1], 'state', 'failures', 'opens', 'probes')
local rate = redis.call('HMGET', KEYS[2], 'rate', 'cuts')
return {got[1] or 'closed', tonumber(got[2] or 0), tonumber(got[3] or 0), tonumber(got[4] or 0),
        rate[1] or '', tonumber(rate[2] or 0)}
""")


@dataclass(frozen=True, slots=True)
class Door:
    """One model at one gateway: `name` is shared by all who ask it, with its limits."""

    name: str
    limits: tuple[Limit, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """As the scripts want them."""
        own = (f"breaker:{self.name}", f"pause:{self.name}", f"rate:{self.name}")
        return (*own, *(f"bucket:{limit.name}" for limit in self.limits))


@dataclass(frozen=True, slots=True)
class Closed:
    """No entry for now.

    It will be free after `wait_s`, sooner if calls under way use less than they reserved; None: a call of this
    size never enters.
    """

    wait_s: float | None
    reason: str
    callers: bool = False  # it is the caller's own limit, which holds nobody else up


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call that has entered, and must be reported whatever happens to it."""

    door: Door
    id: str
    epoch: int
    probe: bool


@dataclass(frozen=True, slots=True)
class DoorState:
    """What the shared state says of a door: for people."""

    breaker: str
    failures: int
    opens: int
    probes: int
    rate: float
    cuts: int


class Gate:
    """Admission for all processes, on Redis's clock."""

    def __init__(self, shared: Shared, settings: ModelSettings) -> None:
        self._shared = shared
        self._settings = settings
        self._common: dict[str, Any] = {
            "breaker": breaker.arguments(settings),
            "adaptive": adaptive.arguments(settings),
        }

    def _argument(self, door: Door, **more: Any) -> dict[str, Any]:
        limits = [{**each.arguments(self._settings), "name": each.name} for each in door.limits]
        return {**self._common, "limits": limits, **more}

    async def admit(self, door: Door, tokens: int) -> Ticket | Closed:
        """Let a call of at most so many tokens in, or say why not.

        Raises:
            SharedDown: nobody can say.
        """
        identity = uuid4().hex
        argument = self._argument(door, id=identity, tokens=tokens, dry=False)
        what, number, detail = await self._shared.run(_ADMIT, door.keys, argument)
        if what in ("closed", "probe"):
            return Ticket(door, identity, int(number), what == "probe")
        return _closed(what, int(number), detail)

    async def look(self, calls: Sequence[tuple[Door, int]]) -> list[Closed | None]:
        """What would keep calls, of at most so many tokens, out of each door; None: nothing. Takes nothing.

        Raises:
            SharedDown: nobody can say.
        """
        return list(await asyncio.gather(*(self._look(door, tokens) for door, tokens in calls)))

    async def _look(self, door: Door, tokens: int) -> Closed | None:
        argument = self._argument(door, id="", tokens=tokens, dry=True)
        what, number, detail = await self._shared.run(_ADMIT, door.keys, argument)
        return None if what == "free" else _closed(what, int(number), detail)

    async def report(
        self,
        ticket: Ticket,
        outcome: Outcome,
        *,
        tokens: int = 0,
        sent: bool = True,
        limited: bool = False,
        pause_s: float = 0.0,
        why: str = "",
    ) -> None:
        """Tell how an admitted call ended: tokens it used, whether it was sent at all, whether by a 429.

        What cannot be told because Redis is away is left to the leases.
        """
        argument = self._argument(
            ticket.door, id=ticket.id, epoch=ticket.epoch, outcome=outcome, tokens=tokens, sent=sent,
            limited=limited, pause=us(pause_s), why=why,
        )  # fmt: skip
        try:
            await self._shared.run(_REPORT, ticket.door.keys, argument)
        except SharedDown as e:
            log.warning("could not report a call, its lease will end: %s", e, extra={"door": ticket.door.name})

    def alive(self, ticket: Ticket) -> AbstractAsyncContextManager[None]:
        """Keep the leases of a call while it is under way."""
        argument = self._argument(ticket.door, id=ticket.id, epoch=ticket.epoch)
        return kept_alive(lambda: self._shared.run(_RENEW, ticket.door.keys, argument), self._settings.lease_s)

    async def states(self, doors: Iterable[Door]) -> dict[str, DoorState]:
        """The breaker and the rate of each door."""
        states = {}
        for door in doors:
            found = await self._shared.run(_STATE, (door.keys[0], door.keys[2]))
            breaker_state, failures, opens, probes, rate, cuts = found
            states[door.name] = DoorState(
                breaker_state, failures, opens, probes, float(rate or self._settings.adaptive_initial), cuts
            )
        return states


_REASONS = {
    "open": "its circuit breaker is open{}",
    "half": "its circuit breaker is half open, another call probes{}",
    "pause": "it asked us to wait",
    "rate": "its rate is adapted to what it took lately",
    "requests": "its requests are used up ({})",
    "tokens": "its tokens are used up ({})",
    "burst": "as many calls as it takes at once are under way ({})",
    "never": "the call may need more tokens than it takes in a whole window ({})",
}


def _closed(what: str, wait_us: int, detail: str) -> Closed:
    if what in ("open", "half") and detail:
        detail = f" ({detail})"
    callers = detail.startswith(CALLER)
    reason = f"the caller's own {what} of this time are used up" if callers else _REASONS[what].format(detail)
    if what == "never":
        return Closed(None, reason)
    wait_s = wait_us / 1_000_000
    return Closed(wait_s, reason if what == "half" else f"{reason}, for {wait_s:.3g} s", callers)
