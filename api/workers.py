"""What live workers report of their sandboxes, put together for people and for Prometheus."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from domain.states import Runtime

_SUMS = ("warm", "cold", "reused", "started", "renewed", "lost", "unclean")
_NOW = ("idle", "preloaded", "busy", "starting", "used", "memory_mb")


def sandboxes(live: Iterable[Any]) -> dict[str, Any]:
    """The sandbox part of `GET /v1/stats`: sums over the workers that live; counts since each started."""
    pools = [worker.facts.get("pool") or {} for worker in live]
    counts = {name: sum(int(pool.get(name) or 0) for pool in pools) for name in (*_SUMS, *_NOW)}
    lent = counts["warm"] + counts["cold"] + counts["reused"]
    starts: dict[str, Any] = {}
    for runtime in Runtime:
        found = _added(pool.get("starts", {}).get(runtime.value) for pool in pools)
        if found["count"]:
            starts[runtime.value] = found
    return {
        "workers": len(pools),
        "workers_ready": sum(bool(worker.ready) for worker in live),
        "tiers": tiers(live),
        "jobs": counts["busy"],
        "hit_rate": round((counts["warm"] + counts["reused"]) / lent, 4) if lent else None,
        "lent": {name: counts[name] for name in ("warm", "cold", "reused")},
        "cells": {name: counts[name] for name in ("idle", "preloaded", "used", "busy", "starting")},
        "cells_since_start": {name: counts[name] for name in ("started", "renewed", "lost", "unclean")},
        "memory_mb": counts["memory_mb"],
        "start_seconds": starts,
        "cold_wait_seconds": _added(pool.get("waits") for pool in pools),
    }


def tiers(live: Iterable[Any]) -> dict[str, bool]:
    """Each tier that a live worker offers, and whether one is ready to run jobs on it."""
    found: dict[str, bool] = {}
    for worker in live:
        refused = worker.facts.get("refusals") or {}
        for name in worker.facts.get("runtimes") or ():
            found[name] = found.get(name, False) or (bool(worker.ready) and name not in refused)
    return found


def _added(histograms: Iterable[Any]) -> dict[str, Any]:
    """The sum of histograms with the same bounds; those of another version of ours are left out."""
    total: dict[str, Any] = {"buckets": [], "count": 0, "sum_s": 0.0}
    for each in histograms:
        if not each:
            continue
        if not total["buckets"]:
            total["buckets"] = [[bound, 0] for bound, _ in each["buckets"]]
        if [bound for bound, _ in total["buckets"]] != [bound for bound, _ in each["buckets"]]:
            continue
        for pair, (_, count) in zip(total["buckets"], each["buckets"], strict=True):
            pair[1] += count
        total["count"] += each["count"]
        total["sum_s"] = round(total["sum_s"] + each["sum_s"], 6)
    return total


class _Reports(Collector):
    """One scrape: what the workers said last, each under its name."""

    def __init__(self, live: Iterable[Any], depths: dict[str, int]) -> None:
        self._live = list(live)
        self._depths = depths

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        ready = GaugeMetricFamily("retort_worker_ready", "Whether a worker takes jobs.", labels=["worker"])
        lent = CounterMetricFamily(
            "retort_sandbox_lent", "Jobs that got a sandbox, by how.", labels=["worker", "start"]
        )
        events = CounterMetricFamily(
            "retort_sandbox_cells", "What happened to sandboxes.", labels=["worker", "event"]
        )
        cells = GaugeMetricFamily("retort_sandbox_cells_now", "Sandboxes now.", labels=["worker", "state"])
        memory = GaugeMetricFamily(
            "retort_sandbox_memory_bytes", "Memory that all sandboxes may use now.", labels=["worker"]
        )
        starts = HistogramMetricFamily(
            "retort_sandbox_start_seconds", "Time to start a sandbox.", labels=["worker", "runtime"]
        )
        waits = HistogramMetricFamily(
            "retort_sandbox_wait_seconds", "Time that jobs waited for a cold sandbox.", labels=["worker"]
        )
        for worker in self._live:
            name, pool = worker.instance, worker.facts.get("pool") or {}
            ready.add_metric([name], float(bool(worker.ready)))
            for start in ("warm", "cold", "reused"):
                lent.add_metric([name, start], pool.get(start, 0))
            for event in ("started", "renewed", "lost", "unclean"):
                events.add_metric([name, event], pool.get(event, 0))
            for state in ("idle", "preloaded", "used", "busy", "starting"):
                cells.add_metric([name, state], pool.get(state, 0))
            memory.add_metric([name], pool.get("memory_mb", 0) * 2**20)
            for runtime, each in (pool.get("starts") or {}).items():
                starts.add_metric([name, runtime], *_buckets(each))
            if pool.get("waits"):
                waits.add_metric([name], *_buckets(pool["waits"]))
        queues = GaugeMetricFamily("retort_queue_messages", "Messages that nobody took.", labels=["queue"])
        for queue, depth in self._depths.items():
            queues.add_metric([queue], depth)
        yield from (ready, lent, events, cells, memory, starts, waits, queues)


def _buckets(histogram: dict[str, Any]) -> tuple[list[tuple[str, float]], float]:
    pairs = [(str(bound), float(count)) for bound, count in histogram["buckets"]]
    return [*pairs, ("+Inf", float(histogram["count"]))], histogram["sum_s"]


def exposition(live: Iterable[Any], depths: dict[str, int]) -> bytes:
    """What Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reports(live, depths))
    return generate_latest(registry)
