"""Trace context as the specification has it, spans that are switched off, and the port of the metrics."""

import http.client
import json
import logging
import sys
import urllib.request
from typing import Any

import pytest
from prometheus_client import Gauge

from domain import logs
from domain.ids import new_id
from telemetry import context, scrape, traces
from telemetry.settings import TelemetrySettings, load_telemetry

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_traceparent(header: str | None) -> None:
    assert context.parent_of(header) is None


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("03", True), ("02", False)])
def test_a_traceparent(flags: str, sampled: bool) -> None:
    found = context.parent_of(f"00-{TRACE}-{SPAN}-{flags}")
    assert found is not None
    assert (found.trace, found.sampled) == (TRACE, sampled)
    assert found.header == f"00-{TRACE}-{SPAN}-0{int(sampled)}"


def test_one_of_a_later_version_may_have_more() -> None:
    found = context.parent_of(f"01-{TRACE}-{SPAN}-01-more")
    assert found is not None
    assert found.header == f"00-{TRACE}-{SPAN}-01"


def test_a_job_without_one_is_a_trace_of_its_own() -> None:
    job_id = new_id()
    found = context.parent_of_job(job_id, None)
    assert (found.trace, found.sampled) == (job_id.hex, True)
    assert context.parent_of_job(job_id, None, ratio=0.0).sampled is False
    assert context.parent_of_job(job_id, f"00-{TRACE}-{SPAN}-00").trace == TRACE
    sampled = sum(context.parent_of_job(new_id(), None, ratio=0.25).sampled for _ in range(2000))
    assert 350 < sampled < 650


def test_switched_off_a_span_is_one_object_that_does_nothing() -> None:
    assert not traces.enabled()
    assert traces.span("a") is traces.span("b", "server", {"c": 1})
    with traces.span("a") as span:
        span.set({"b": 1})
        span.name("c")
        span.fail("d")
        assert span.parent is None
    traces.record("a", "client", 1.0, {})


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SystemExit, match=r"pip install 'retort\[otel\]'"):
        traces.open_traces("s", "i", TelemetrySettings(traces_url="http://127.0.0.1:1/v1/traces"))
    assert not traces.enabled()


def test_a_wrong_setting_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_TRACES_URL", "user:hunter2@collector")
    with pytest.raises(SystemExit) as told:
        load_telemetry()
    assert "RETORT_TRACES_URL" in str(told.value)
    assert "hunter2" not in str(told.value)


def test_a_port_that_is_taken_leads_to_the_next() -> None:
    registry = scrape.new_registry()
    Gauge("retort_answer", "For this test.", registry=registry).set(42)
    first = scrape.serve(registry, "127.0.0.1", 0)
    try:
        port = int(first.address.rpartition(":")[2])
        second = scrape.serve(registry, "127.0.0.1", port)
        try:
            assert port < int(second.address.rpartition(":")[2]) < port + scrape.PORTS
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://{second.address}/metrics") as answer:
                text = answer.read().decode()
        finally:
            second.close()
    finally:
        first.close()
    assert "retort_answer 42.0" in text
    assert "_created" not in text


def test_the_port_tells_whether_the_process_is_well() -> None:
    def ask(address: str) -> tuple[int, str | None, dict[str, Any]]:
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = answer.status, answer.getheader("Content-Type"), json.loads(answer.read())
        connection.close()
        return said

    well = scrape.serve(scrape.new_registry(), "127.0.0.1", 0)
    ill = scrape.serve(scrape.new_registry(), "127.0.0.1", 0, lambda: (False, {"status": "ill"}))
    try:
        assert ask(well.address) == (200, "application/json", {"status": "ok"})
        assert ask(ill.address) == (503, "application/json", {"status": "ill"})
    finally:
        well.close()
        ill.close()


def test_ids_are_in_every_line_of_a_block_and_a_lines_own_come_first() -> None:
    def line(**extra: str) -> dict[str, Any]:
        record = logging.makeLogRecord({"msg": "said", "levelname": "INFO", "name": "n", **extra})
        found: dict[str, Any] = json.loads(logs.JsonFormatter().format(record))
        return found

    with logs.ids(job_id="a", trace_id=None):
        with logs.ids(attempt=2):
            assert (line()["job_id"], line()["attempt"]) == ("a", 2)
            assert line(job_id="b")["job_id"] == "b"
        assert "attempt" not in line()
        assert "trace_id" not in line()
    assert "job_id" not in line()
