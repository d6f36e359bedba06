"""One scrape: what this process counted, what workers reported, and what the stores say of queues and outbox.

A scrape is open to everybody, so the stores are asked at most once a second, by however many ask. Where they do
not answer, the rest is told all the same.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from api import workers
from api.database import Database
from api.meters import Meters
from api.problems import Problem
from domain.bell import ALL_QUEUES, queue_of
from domain.metering import LEASED, OUTBOX, QUEUES
from domain.states import LEASED_STATES, State
from domain.worker_statements import LIVE_WORKERS

_PATIENCE_S = 2.0
#: For so long what the stores said is good enough.
_FRESH_S = 1.0


@dataclass(slots=True)
class Queue:
    """Of one queue: jobs that wait, those that are put off, and the longest wait in seconds."""

    jobs: int = 0
    postponed: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """What the stores said; empty where one did not answer."""

    live: Sequence[Any] = ()
    queues: dict[str, Queue] = field(default_factory=dict)
    leased: Sequence[Any] = ()
    outbox: Any | None = None
    depths: dict[str, int] = field(default_factory=dict)
    database_up: bool = False


class Metering:
    """Makes scrapes."""

    def __init__(self, meters: Meters, database: Database, client: Any) -> None:
        self._meters = meters
        self._database = database
        self._redis = client
        self._lock = asyncio.Lock()
        self._found = Found()
        self._asked_at = float("-inf")

    async def exposition(self) -> bytes:
        """What Prometheus reads."""
        async with self._lock:
            if time.monotonic() - self._asked_at > _FRESH_S:
                self._found = await self._ask()
                self._asked_at = time.monotonic()
            found = self._found
        return (
            generate_latest(self._meters.registry)
            + workers.exposition(found.live, found.depths)
            + generate_latest(_Once(list(_stores(found))))
        )

    async def _ask(self) -> Found:
        depths = await self.depths()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                live = await self._database.all(LIVE_WORKERS, {})
                queues = queues_of(await self._database.all(QUEUES, {}))
                leased = await self._database.all(LEASED, {})
                outbox = await self._database.one(OUTBOX, {})
        except (Problem, TimeoutError):
            return Found(depths=depths)
        return Found(live, queues, leased, outbox, depths, database_up=True)

    async def depths(self) -> dict[str, int]:
        """How many messages wait in each queue; nothing where Redis does not answer."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return {queue: int(await self._redis.llen(queue)) for queue in ALL_QUEUES}
        except (RedisError, OSError, TimeoutError):
            return {}


def queues_of(rows: Sequence[Any]) -> dict[str, Queue]:
    """Every queue, with what `QUEUES` found of it."""
    found = {name: Queue() for name in ALL_QUEUES}
    for row in rows:
        queue = found[queue_of(row.next_state, row.priority, row.runtime)]
        queue.jobs += row.jobs
        queue.postponed += row.postponed
        queue.oldest_s = max(queue.oldest_s, row.oldest_s or 0.0)
    return found


class _Once(Collector):
    """Metrics that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _stores(found: Found) -> Iterator[Metric]:
    def gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, says, labels=labels)

    up = gauge("retort_store_up", "Whether a store answered.", "store")
    up.add_metric(["database"], float(found.database_up))
    up.add_metric(["broker"], float(bool(found.depths)))
    waiting = gauge("retort_queue_jobs", "Jobs that wait, those put off until later included.", "queue")
    postponed = gauge("retort_queue_postponed_jobs", "Of these, jobs put off: no model could be had.", "queue")
    oldest = gauge("retort_queue_oldest_seconds", "How long the oldest job waits that is not put off.", "queue")
    for name, queue in found.queues.items():
        waiting.add_metric([name], queue.jobs)
        postponed.add_metric([name], queue.postponed)
        oldest.add_metric([name], queue.oldest_s)
    states = gauge("retort_jobs_unfinished", "Jobs that have not ended.", "state")
    overdue = gauge("retort_leases_overdue", "Jobs whose worker let its lease run out, and nobody took yet.")
    present = gauge("retort_workers", "Workers that reported lately.", "role", "ready")
    waits = gauge("retort_webhook_waiting", "Messages in the outbox that are not delivered.")
    due = gauge("retort_webhook_due", "Of these, messages that should be sent now.")
    late = gauge("retort_webhook_oldest_seconds", "How long the oldest of these is due.")
    if found.database_up:
        each = {row.state: row.jobs for row in found.leased}
        each[State.QUEUED] = sum(queue.jobs for queue in found.queues.values())
        for state in (State.QUEUED, *sorted(LEASED_STATES)):
            states.add_metric([state.value], each.get(state.value, 0))
        overdue.add_metric([], sum(row.overdue for row in found.leased))
        for (role, ready), count in _present(found.live).items():
            present.add_metric([role, ready], count)
    if found.outbox is not None:
        waits.add_metric([], found.outbox.waiting)
        due.add_metric([], found.outbox.due)
        late.add_metric([], found.outbox.oldest_s)
    yield from (up, waiting, postponed, oldest, states, overdue, present, waits, due, late)


def _present(live: Sequence[Any]) -> Counter[tuple[str, str]]:
    """How many workers there are of each kind, ready and not."""
    counted = Counter({(role, ready): 0 for role in ("sandbox", "model") for ready in ("true", "false")})
    for worker in live:
        for role in worker.facts.get("roles", ("sandbox",)):
            counted[role, str(bool(worker.ready)).lower()] += 1
    return counted
