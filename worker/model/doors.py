"""How open the doors to all models are: breakers, rates, and how full the buckets. For people and metrics."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from worker.model.buckets import Limit, limits_of
from worker.model.gate import Door, Gate
from worker.model.gateways import Gateways
from worker.model.settings import ModelSettings
from worker.model.shared import Script, Shared

#: KEYS: one bucket. What counts of it now: requests, tokens, calls under way.
_FILL = Script("""
local now = now_us()
local window = cjson.decode(ARGV[1])
local since = string.format('%.0f', now - window)
local requests = redis.call('ZCOUNT', KEYS[1] .. ':log', '(' .. since, '+inf')
local flying = redis.call('ZCOUNT', KEYS[1] .. ':fly', '(' .. string.format('%.0f', now), '+inf')
local tokens = tonumber(redis.call('HGET', KEYS[1] .. ':tokens', 'sum') or 0)
-- What has left the window is still in the sum until the next call.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. ':log', '-inf', since)) do
  tokens = tokens - tonumber(redis.call('HGET', KEYS[1] .. ':tokens', id) or 0)
end
return {requests, tokens, flying}
""")


@dataclass(frozen=True, slots=True)
class Doors:
    """By gateway and model the breaker's state and the rate; by bucket and kind the share that is used."""

    doors: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    fills: dict[tuple[str, str], float] = field(default_factory=dict)


async def look(gateways: Gateways, gate: Gate, shared: Shared, settings: ModelSettings) -> Doors:
    """Look at all of them.

    Raises:
        SharedDown: nobody can say.
    """
    found = Doors()
    limits: dict[str, Limit] = {}
    for gateway in gateways.all:
        names = {f"{gateway.name}/{model}": model for model in gateway.models}
        states = await gate.states(Door(name) for name in names)
        for name, state in states.items():
            found.doors[gateway.name, names[name]] = (state.breaker, state.rate)
        for model in gateway.models:
            card = gateways.catalogue.find(model)
            if card is not None:
                limits |= {each.name: each for each in limits_of(gateway.buckets_for(card), settings)}
    for limit in limits.values():
        used = await shared.run(_FILL, (f"bucket:{limit.name}",), round(limit.window_s * 1_000_000))
        for kind, most, count in _kinds(limit, used):
            found.fills[limit.name, kind] = int(count) / most
    return found


def _kinds(limit: Limit, used: Iterable[int]) -> list[tuple[str, int, int]]:
    most = {"requests": limit.requests, "tokens": limit.tokens, "burst": limit.burst}
    pairs = zip(most.items(), used, strict=True)
    return [(kind, value, count) for (kind, value), count in pairs if value]
