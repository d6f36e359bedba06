"""What can be looked at of the pool when a worker is scraped."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from worker.sandbox.pool import Pool
from worker.sandbox.statistics import image_name


def of_pool(pool: Pool) -> Iterator[Metric]:
    """The cells."""
    cells = GaugeMetricFamily(
        "retort_pool_cells", "Cells now, by what they do.", labels=["image", "profile", "runtime", "state"]
    )
    target = GaugeMetricFamily(
        "retort_pool_target", "Idle cells that are wanted.", labels=["image", "profile", "runtime"]
    )
    wanted: Counter[tuple[str, str, str]] = Counter()
    states: Counter[tuple[str, str, str, str]] = Counter()
    with pool.changed:
        # Two versions of an image have the same name here, so what is theirs is added up.
        for shelf in pool.shelves.values():
            key = (image_name(shelf.image), shelf.profile.name, shelf.runtime.value)
            wanted[key] += int(shelf.target)
            states[*key, "idle"] += len(shelf.idle)
            states[*key, "busy"] += shelf.busy
            states[*key, "starting"] += shelf.starting
            states[*key, "used"] += sum(map(len, shelf.used.values()))
            states[*key, "wanted"] += shelf.waiting
        stats, memory_mb = pool.stats, pool.memory_mb()
        starts = [(key, each.as_dict()) for key, each in stats.by_image.items()]
        waits = stats.waits.as_dict()
    for labels, count in wanted.items():
        target.add_metric(labels, count)
    for each_state, count in states.items():
        cells.add_metric(each_state, count)
    yield from (cells, target)
    memory = GaugeMetricFamily(
        "retort_pool_memory_bytes", "Memory that all cells may use now, at most.", value=memory_mb * 2**20
    )
    events = CounterMetricFamily("retort_pool_events", "What happened to cells.", labels=["event"])
    for event in ("started", "renewed", "lost", "unclean"):
        events.add_metric([event], getattr(stats, event))
    took = HistogramMetricFamily(
        "retort_pool_start_seconds", "Time to start a cell.", labels=["image", "runtime"]
    )
    for (image, runtime), each in starts:
        took.add_metric([image, runtime], *_buckets(each))
    waited = HistogramMetricFamily("retort_pool_wait_seconds", "Time that jobs waited for a cell.")
    waited.add_metric([], *_buckets(waits))
    yield from (memory, events, took, waited)


def _buckets(histogram: dict[str, Any]) -> tuple[list[tuple[str, float]], float]:
    pairs = [(str(bound), float(count)) for bound, count in histogram["buckets"]]
    return [*pairs, ("+Inf", float(histogram["count"]))], histogram["sum_s"]
