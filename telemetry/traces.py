"""OpenTelemetry spans, sent over OTLP. Off, this module imports nothing and a span is one shared object.

Spans are sent by a thread of the library, in batches; one that cannot be sent is dropped, with a line in the
log. Nothing waits for a collector.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from telemetry import context
from telemetry.context import Parent
from telemetry.settings import TelemetrySettings, load_telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float | list[str]

WHAT_TO_INSTALL = "RETORT_TRACES_URL is set, and OpenTelemetry is not installed: pip install 'retort[otel]'"


class Span:
    """A span while it is open; without OpenTelemetry it does nothing."""

    __slots__ = ("_otel",)

    def __init__(self, otel: "OtelSpan | None" = None) -> None:
        self._otel = otel

    def set(self, values: Mapping[str, Value | None]) -> None:
        """Add attributes; those that are None are left out."""
        if self._otel is not None:
            self._otel.set_attributes(_known(values))

    def name(self, name: str) -> None:
        """Call it otherwise, once more is known."""
        if self._otel is not None:
            self._otel.update_name(name)

    def fail(self, kind: str) -> None:
        """It ended badly; `kind` is a word, never a text that somebody else wrote."""
        if self._otel is not None:
            from opentelemetry.trace import Status, StatusCode

            self._otel.set_status(Status(StatusCode.ERROR))
            self._otel.set_attribute("error.type", kind)

    @property
    def parent(self) -> Parent | None:
        """It, as the parent of others."""
        if self._otel is None:
            return None
        found = self._otel.get_span_context()
        return Parent(found.trace_id, found.span_id, found.trace_flags.sampled)


_NONE = Span()
_OFF: AbstractContextManager[Span] = nullcontext(_NONE)


class _On:
    """What there is once traces are switched on."""

    def __init__(self, provider: "TracerProvider", tracer: "Tracer", ratio: float) -> None:
        self.provider = provider
        self.tracer = tracer
        self.ratio = ratio


_on: _On | None = None


def enabled() -> bool:
    """Whether spans are sent."""
    return _on is not None


def open_traces(service: str, instance: str, settings: TelemetrySettings | None = None) -> None:
    """Send spans from now on, if the settings say where to.

    Raises:
        SystemExit: OpenTelemetry is not installed, or a setting is wrong.
    """
    global _on
    settings = settings or load_telemetry()
    if settings.traces_url is None or _on is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError:
        raise SystemExit(WHAT_TO_INSTALL) from None
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.traces_ratio)),
        # Not `Resource.create`: that reads the environment and tells of the process, its arguments too.
        resource=Resource({"service.name": service, "service.instance.id": instance}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    _on = _On(provider, provider.get_tracer("retort"), settings.traces_ratio)


def close_traces() -> None:
    """Send what is left, and stop."""
    global _on
    if _on is not None:
        _on.provider.shutdown()
        _on = None


def ratio() -> float:
    """The share of jobs that are sampled where nobody else decided."""
    return 1.0 if _on is None else _on.ratio


def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Value | None] | None = None,
    *,
    parent: Parent | None = None,
) -> AbstractContextManager[Span]:
    """A span around a block; below `parent`, or below the one that is open here."""
    if _on is None:
        return _OFF
    return _open(_on, name, kind, attributes or {}, parent)


@contextmanager
def _open(
    on: _On, name: str, kind: Kind, attributes: Mapping[str, Value | None], parent: Parent | None
) -> Iterator[Span]:
    with on.tracer.start_as_current_span(
        name,
        context=_below(parent),
        kind=_kind(kind),
        attributes=_known(attributes),
        record_exception=False,  # its text may be anybody's
        set_status_on_exception=False,
    ) as otel:
        opened = Span(otel)
        here = opened.parent
        token = context.CURRENT.set(None if here is None else here.header)
        try:
            yield opened
        except Exception as e:
            opened.fail(type(e).__name__)
            raise
        finally:
            context.CURRENT.reset(token)


def record(
    name: str,
    kind: Kind,
    seconds: float,
    attributes: Mapping[str, Value | None],
    *,
    parent: Parent | None = None,
    failed: str | None = None,
) -> None:
    """A span of something that took so long and has just ended."""
    if _on is None:
        return
    now = time.time_ns()
    otel = _on.tracer.start_span(
        name,
        context=_below(parent),
        kind=_kind(kind),
        attributes=_known(attributes),
        start_time=now - int(seconds * 1e9),
    )
    if failed is not None:
        Span(otel).fail(failed)
    otel.end(now)


def _below(parent: Parent | None) -> Any:
    """The context of a span elsewhere; None for the one that is open here."""
    if parent is None:
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    there = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(there))


def _kind(kind: Kind) -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind[kind.upper()]


def _known(values: Mapping[str, Value | None]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
