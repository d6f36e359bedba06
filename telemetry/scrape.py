"""A port on which a process tells its metrics and whether it is well, from a thread of its own."""

import errno
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server
from prometheus_client.core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

#: Ports that are tried, from the one that is set: several processes of one machine share a setting.
PORTS = 16


#: Whether a process is well, and what it says of that, for JSON. Asked from a thread of its own; must not wait.
Health = Callable[[], tuple[bool, dict[str, Any]]]


def alive() -> tuple[bool, dict[str, Any]]:
    """The health of a process that has no more to say than that it answers."""
    return True, {"status": "ok"}


def new_registry() -> CollectorRegistry:
    """An empty registry, but for what every process tells of itself."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class Watched(Collector):
    """A part of what is scraped: `look` gives it anew each time."""

    def __init__(self, look: Callable[[], Iterable[Metric]]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead: registering must not look."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Look now."""
        return self._look()


@dataclass(frozen=True, slots=True)
class Served:
    """Where metrics can be read, and how that ends."""

    address: str
    close: Callable[[], None]


def serve(registry: CollectorRegistry, host: str, port: int, health: Health = alive) -> Served:
    """Serve `GET /metrics` and `GET /healthz` in threads of their own.

    On the first free port of `PORTS` from `port`; 0: any. Whoever is not well answers 503 to `/healthz`.

    Raises:
        OSError: none of them is to be had.
    """
    tries = 1 if port == 0 else PORTS
    for number in range(port, port + tries):
        try:
            server, thread = start_http_server(number, host, registry)
            break
        except OSError as e:
            if e.errno != errno.EADDRINUSE or number == port + tries - 1:
                raise
    metrics = server.get_app()
    assert metrics is not None  # noqa: S101 (it was made with one)
    server.set_app(_application(metrics, health))

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    address = f"{host}:{server.server_port}"
    log.info("metrics can be read at http://%s/metrics", address)
    return Served(address, close)


def _application(metrics: WSGIApplication, health: Health) -> WSGIApplication:
    """What is served: the metrics, but for the path that asks for health."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            return metrics(environ, start_response)
        well, said = health()
        start_response(
            "200 OK" if well else "503 Service Unavailable",
            [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
        )
        return [json.dumps(said).encode()]

    return answer
