"""What can be looked at when a worker is scraped: its slots, its connections, the doors to gateways."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from worker.advance import Steps
from worker.leases import Leases
from worker.model.doors import Doors
from worker.model.port import Models
from worker.store import Store


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)


def of_worker(
    slots: int, steps: Steps, leases: Leases, store: Store, why_not: Callable[[], str | None]
) -> Iterator[Metric]:
    """What every worker has."""
    taking = not steps.draining and why_not() is None  # as it was last looked at: a scrape asks no engine
    yield _gauge("retort_worker_slots", "Jobs that this worker does at the same time.", slots)
    yield _gauge("retort_worker_slots_busy", "Jobs that it has now.", len(leases))
    yield _gauge("retort_worker_taking", "Whether it takes jobs.", float(taking))
    yield _gauge("retort_worker_idle_seconds", "Time since it last claimed a job.", steps.idle_s)
    opened, in_use, most = store.connections.count()
    yield _gauge("retort_database_connections", "Connections to the database that are open.", opened)
    yield _gauge("retort_database_connections_in_use", "Of these, in use now.", in_use)
    yield _gauge("retort_database_connections_most", "Connections that there may be.", most)


def of_models(models: Models) -> Iterator[Metric]:
    """The doors to gateways, as the broker has them for all workers together; nothing where it is away."""
    labels = ["gateway", "model"]
    breakers = GaugeMetricFamily(
        "retort_model_breaker_open", "Circuit breaker: 0 closed, 0.5 half open, 1 open.", labels=labels
    )
    rates = GaugeMetricFamily("retort_model_rate", "Calls a second that are let through.", labels=labels)
    fills = GaugeMetricFamily(
        "retort_model_bucket_used_ratio", "Part of a limit that is used up.", labels=["bucket", "kind"]
    )
    found = models.doors() or Doors()
    for (gateway, model), (state, rate) in found.doors.items():
        breakers.add_metric([gateway, model], {"closed": 0.0, "open": 1.0}.get(state, 0.5))
        rates.add_metric([gateway, model], rate)
    for (bucket, kind), used in found.fills.items():
        fills.add_metric([bucket, kind], used)
    yield from (breakers, rates, fills)
