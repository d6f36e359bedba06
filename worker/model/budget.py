"""Money: no call is made that could cost more than is left.

What a call may cost at most is its input, as estimated, and all the output that it may have, at the price. A
job has one worker at a time, so what it has left is a number; a caller's day is shared by all processes, so
what calls under way may cost is reserved in Redis and settled when they end. The database is the truth about
what was spent: its figure comes with each call, and Redis keeps the larger of that and its own sum, because a
figure may be older than a call that ended since.

In Redis money is whole billionths of a dollar, rounded up, which fits a Lua number up to nine million dollars.
"""

import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from uuid import uuid4

from domain.prices import Price, Tokens
from worker.model.settings import ModelSettings
from worker.model.shared import Script, Shared, SharedDown, kept_alive, us

log = logging.getLogger(__name__)

NANO = Decimal(1_000_000_000)

# Of a caller's day: a hash with `spent` and, per call under way, `money:ID` and `until:ID`.
_LEFT = """
local x = cjson.decode(ARGV[1])
local now = now_us()
local key = KEYS[1]
local function reserved()
  local all, sum = redis.call('HGETALL', key), 0
  local money, till = {}, {}
  for i = 1, #all, 2 do
    local kind, id = string.match(all[i], '^(%a+):(.+)$')
    if kind == 'money' then money[id] = tonumber(all[i + 1]) end
    if kind == 'until' then till[id] = tonumber(all[i + 1]) end
  end
  for id, nano in pairs(money) do
    if (till[id] or 0) > now then sum = sum + nano
    else redis.call('HDEL', key, 'money:' .. id, 'until:' .. id) end
  end
  return sum
end
"""

_RESERVE = Script(
    _LEFT,
    """
local spent = math.max(tonumber(redis.call('HGET', key, 'spent') or 0), x.spent)
redis.call('HSET', key, 'spent', string.format('%.0f', spent))
redis.call('PEXPIRE', key, x.keep_ms)
local left = x.budget - spent - reserved()
if x.nano > left then return {0, string.format('%.0f', left)} end
redis.call('HSET', key, 'money:' .. x.id, string.format('%.0f', x.nano), 'until:' .. x.id, now + x.lease)
return {1, string.format('%.0f', left - x.nano)}
""",
)

_RENEW = Script(
    _LEFT,
    """
if redis.call('HEXISTS', key, 'money:' .. x.id) == 1 then
  redis.call('HSET', key, 'until:' .. x.id, now + x.lease)
end
""",
)

_SETTLE = Script(
    _LEFT,
    """
redis.call('HDEL', key, 'money:' .. x.id, 'until:' .. x.id)
local spent = tonumber(redis.call('HGET', key, 'spent') or 0) + x.nano
redis.call('HSET', key, 'spent', string.format('%.0f', spent))
redis.call('PEXPIRE', key, x.keep_ms)
""",
)

_KEEP_MS = 2 * 86_400_000


def worst_case(price: Price, input_tokens: int, max_tokens: int) -> Decimal:
    """The most a call may cost, in dollars: each token of input is priced as the dearest kind of input."""
    dearest = max(price.input, price.cache_write or Decimal(0))
    whole = Price(dearest, price.output, usd_per_unit=price.usd_per_unit)
    return whole.cost(Tokens(input_tokens, max_tokens)).usd


def dollars(usd: Decimal) -> str:
    """For people: cents where that is exact enough, else four significant digits, always rounded up."""
    if usd >= 100:
        return f"${usd.quantize(Decimal('0.01'), ROUND_CEILING)}"
    if usd <= 0:
        return "$0"
    return f"${usd.quantize(Decimal(1).scaleb(usd.adjusted() - 3), ROUND_CEILING).normalize():f}"


def nano(usd: Decimal) -> int:
    """Billionths of a dollar, rounded up."""
    return int((usd * NANO).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Day:
    """A caller's day: what they may spend in it, and what the database says they have, in dollars."""

    caller: str
    day: str
    budget_usd: Decimal
    spent_usd: Decimal


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for a call under way."""

    day: Day
    id: str


@dataclass(frozen=True, slots=True)
class TooLittle:
    """The day has less left than the call may cost."""

    left_usd: Decimal


class Budgets:
    """The days of all callers."""

    def __init__(self, shared: Shared, settings: ModelSettings) -> None:
        self._shared = shared
        self._lease_s = settings.budget_lease_s

    async def reserve(self, day: Day, usd: Decimal) -> Reservation | TooLittle:
        """Set money aside for one call.

        Raises:
            SharedDown: nobody can say what is left, so nothing is.
        """
        identity = uuid4().hex
        argument = {
            "id": identity, "nano": nano(usd), "budget": int(day.budget_usd * NANO),
            "spent": nano(day.spent_usd),
            "lease": us(self._lease_s), "keep_ms": _KEEP_MS,
        }  # fmt: skip
        granted, left = await self._shared.run(_RESERVE, [_key(day)], argument)
        return Reservation(day, identity) if granted else TooLittle(max(Decimal(0), Decimal(left) / NANO))

    def alive(self, held: Reservation) -> AbstractAsyncContextManager[None]:
        """Keep a reservation while its call is under way."""
        argument = {"id": held.id, "lease": us(self._lease_s)}
        return kept_alive(lambda: self._shared.run(_RENEW, [_key(held.day)], argument), self._lease_s)

    async def settle(self, held: Reservation, usd: Decimal) -> None:
        """The call cost so much; the rest is free again. If Redis is away, the database's figure will tell."""
        argument = {"id": held.id, "nano": nano(usd), "keep_ms": _KEEP_MS}
        try:
            await self._shared.run(_SETTLE, [_key(held.day)], argument)
        except SharedDown as e:
            log.warning("could not settle a call's cost: %s", e, extra={"caller": held.day.caller})


def _key(day: Day) -> str:
    return f"budget:{day.caller}:{day.day}"
