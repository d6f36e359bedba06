"""What the sender of webhooks counts for Prometheus. docs/metrics.md has all names."""

from prometheus_client import Counter, Gauge, Histogram

from telemetry.scrape import new_registry

REGISTRY = new_registry()

SENDS = Counter("retort_webhook_sends", "Tries to deliver a message.", ["outcome"], registry=REGISTRY)
SECONDS = Histogram("retort_webhook_send_seconds", "Time of a try.", registry=REGISTRY)
UNDER_WAY = Gauge("retort_webhook_under_way", "Messages that are being sent now.", registry=REGISTRY)


def sent(delivered: bool, seconds: float) -> None:
    """Count a try."""
    SENDS.labels("delivered" if delivered else "failed").inc()
    SECONDS.observe(seconds)
