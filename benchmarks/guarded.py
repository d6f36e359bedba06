"""What limits and idempotency cost: the same jobs of two callers, in turns within one run.

One caller has no quota at all. The other has every one, though none that is reached, and each of its requests
names an idempotency key of its own. Events are published for both, as always.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.document import Measurement
from benchmarks.load import in_turn, load, request
from benchmarks.pace import Pace
from benchmarks.service import Service
from benchmarks.stats import summary

JOB = {"code": "print(1)", "reuse": "caller"}
QUOTAS = {
    "requests_per_s": 1e5,
    "burst": 10**6,
    "running": 10**6,
    "queued": 10**6,
    "execution_s_per_day": 1e9,
    "model_usd_per_day": 1e3,
    "retention_days": 30,
}
CLIENTS = 4
ROUNDS = 5

PLAIN, GUARDED = "e2e.plain", "e2e.guarded"
_TITLES = {PLAIN: "no quotas", GUARDED: "all quotas, idempotency keys"}


def measure(pace: Pace, service: Service) -> Iterator[Measurement]:
    """Latency with one client, then the rate with several."""
    asks: dict[str, Callable[[], bytes]] = {PLAIN: _plain(service), GUARDED: guarded(service)}
    pace.say("service: quotas and idempotency keys")
    for ask in asks.values():
        in_turn(service.address, (ask() for _ in range(20)))
    times: dict[str, list[float]] = {key: [] for key in asks}
    each = max(1, pace.requests // ROUNDS)
    for _ in range(ROUNDS):
        for key, ask in asks.items():
            answers = in_turn(service.address, (ask() for _ in range(each)))
            times[key] += [answer.ms for answer in answers]
    for key, ms in times.items():
        yield Measurement.of_times(f"{key}.latency", f"HTTP: recycled cell, one client, {_TITLES[key]}", ms)
    done: dict[str, list[float]] = {key: [] for key in asks}
    seconds = dict.fromkeys(asks, 0.0)
    for _ in range(ROUNDS):
        for key, ask in asks.items():
            found = load(service.address, ask, CLIENTS, pace.load_s / ROUNDS, warm_s=0.5)
            done[key] += found.ms
            seconds[key] += found.seconds
    for key, ms in done.items():
        title = f"HTTP: recycled cells, {CLIENTS} clients, {_TITLES[key]}"
        yield Measurement(f"{key}.rate", title, ms=summary(ms), per_s=len(ms) / seconds[key])


def _plain(service: Service) -> Callable[[], bytes]:
    return partial(request, service.address, _key(service, {}), JOB)


def guarded(service: Service) -> Callable[[], bytes]:
    """Makes requests of a new caller with every quota, each with an idempotency key of its own."""
    key = _key(service, QUOTAS)
    return lambda: request(service.address, key, JOB, {"Idempotency-Key": uuid4().hex})


def _key(service: Service, quotas: dict[str, Any]) -> str:
    """The key of a new caller."""
    host, port = service.address
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=f"http://{host}:{port}", headers=headers) as client:
        caller = client.post("/v1/callers", json={"name": f"bench-{uuid4().hex[:8]}", "quotas": quotas})
        made = client.post("/v1/keys", json={"caller_id": caller.raise_for_status().json()["id"]})
        return str(made.raise_for_status().json()["key"])
