"""What this process counts for Prometheus: requests above all. docs/metrics.md has all names."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from telemetry.scrape import new_registry

#: Seconds. A warm job that is waited for takes ten milliseconds, a long poll a minute.
LATENCIES = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

#: Any other method is counted as one: clients must not be able to make new names.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"


class Meters:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self._requests = Counter(
            "retort_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "retort_http_request_seconds",
            "Time from a request to the end of its answer; long polls and streams are as long as they wait.",
            ["method", "route"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.under_way = Gauge(
            "retort_http_requests_under_way", "Requests being answered now.", registry=self.registry
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request; `route` is the template of its path, None where no route has it."""
        key = (method if method in METHODS else OTHER, route or OTHER, status)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = (
                self._requests.labels(key[0], key[1], str(status)),
                self._seconds.labels(key[0], key[1]),
            )
        found[0].inc()
        found[1].observe(seconds)

    def watch(self, name: str, says: str, value: Callable[[], float]) -> None:
        """A gauge that is looked at when it is read."""
        Gauge(name, says, registry=self.registry).set_function(value)
