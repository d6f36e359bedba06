"""What the service tells of itself: metrics, traces and logs of an API, a worker and a sender of webhooks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import docker
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func

from api import keys
from domain.quotas import Scope
from telemetry import words
from tests.collector import Collected, Collector, collecting
from tests.conftest import ROOT, Services, empty
from tests.harness import Broker, Jobs, Worker, eventually
from tests.integration.api.harness import Server
from tests.metrics import differences
from tests.receivers import sending
from tests.tasks import KEY, task_worker

SCRIPTS = ROOT / "tests" / "tasks.toml"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
WEBHOOK_KEY = "a key for the secrets of webhooks, in tests alone"
SECRET = "sesame-in-env-of-the-job"


@dataclass
class Stack:
    """What runs, and a client of it."""

    server: Server
    worker: Worker
    hooks_log: Path
    collector: Collector
    client: httpx.Client
    table: Jobs
    broker: Broker

    def run(self, document: dict[str, Any], **headers: str) -> dict[str, Any]:
        """A job, when it has ended."""
        answer = self.client.post("/v1/jobs", json=document, headers={"Prefer": "wait=60", **headers})
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def trace(self, trace_id: str, *names: str) -> dict[str, Collected]:
        """The spans of a trace, one of each name, once all of these have come."""
        eventually(lambda: set(names) <= set(self.collector.of(trace_id)), "all spans come")
        return {name: spans[-1] for name, spans in self.collector.of(trace_id).items()}

    def metrics(self, log: Path) -> str:
        """What the process with this log exposes on its own port."""
        found = re.search(r"metrics can be read at (http://127\.0\.0\.1:\d+/metrics)", log.read_text())
        assert found, log.read_text()
        return httpx.get(found[1], trust_env=False).text


@pytest.fixture(scope="module")
def stack(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The whole service, traced."""
    empty(services)
    folder = tmp_path_factory.mktemp("telemetry")
    urls = (services.database_url, services.redis_url)
    with collecting() as collector:
        told = {"RETORT_TRACES_URL": collector.url, "RETORT_METRICS_PORT": "0", "NO_PROXY": "127.0.0.1"}
        with (
            task_worker(services, engine, folder, SCRIPTS, environment=told) as (worker, _),
            sending(folder / "hooks.log", services.database_url, WEBHOOK_KEY, metrics_port="0"),
        ):
            server = Server(folder / "api.log", *urls, **told, webhook_key=WEBHOOK_KEY, key_cache_s="0")
            table = Jobs(services.database_url)
            with table.engine.begin() as connection:
                key = keys.create(connection, "alice", scopes=(Scope.SUBMIT, Scope.READ))
            client = httpx.Client(
                base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=90, trust_env=False
            )
            broker = Broker(services.redis_url)
            yield Stack(server, worker, folder / "hooks.log", collector, client, table, broker)
            broker.close()
            client.close()
            table.close()
            server.stop()
            assert worker.stop() == 0


def test_every_metric_is_documented_and_every_documented_one_exposed(stack: Stack) -> None:
    stack.run({"task": "[scripted:wrong-then-right] greet"})
    stack.run({"code": "print(1)"})
    api = stack.client.get("/metrics").text
    assert differences(api, "The API", "The API's event loop", "API and worker") == []
    worker = stack.metrics(stack.worker.log)
    assert differences(worker, "A worker", "API and worker") == []
    assert differences(stack.metrics(stack.hooks_log), "The sender of webhooks") == []
    for text in (api, worker):
        assert "process_resident_memory_bytes" in text
        assert "process_open_fds" in text


def test_counters_say_what_happened(stack: Stack) -> None:
    before = _samples(stack.metrics(stack.worker.log))
    stack.run({"task": "[scripted:wrong-then-right] greet"})
    stack.run({"code": "1 / 0"})
    after = _samples(stack.metrics(stack.worker.log))

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert grown("retort_jobs_ended_total", state="finished", verdict="ok", language="python") == 1
    assert grown("retort_jobs_ended_total", state="finished", verdict="error", language="python") == 1
    assert grown("retort_step_seconds_count", step="generating") == 2
    assert grown("retort_step_seconds_count", step="running") == 3
    assert grown("retort_queue_wait_seconds_count", priority="interactive") == 2
    assert grown("retort_run_seconds_count", language="python") == 3
    model = {"gateway": "default", "model": "gpt-4.1"}
    assert grown("retort_model_calls_total", **model, outcome="ok") == 2
    assert grown("retort_model_tokens_total", **model, kind="output") > 0
    assert grown("retort_model_cost_usd_total", **model) > 0
    assert after["retort_model_breaker_open", frozenset(model.items())] == 0
    cell = {"image": "python", "profile": "standard", "runtime": "runc"}
    assert sum(grown("retort_pool_lent_total", **cell, start=start) for start in ("warm", "cold")) == 3
    assert after["retort_worker_slots_busy", frozenset()] == 0


def test_the_api_counts_by_template_and_never_by_what_clients_make_up(stack: Stack) -> None:
    job = stack.run({"code": "print(1)"})
    stack.client.get(f"/v1/jobs/{job['id']}")
    stack.client.get("/no/such/path")
    stack.client.request("BREW", "/v1/jobs")
    found = _samples(stack.client.get("/metrics").text)
    counted = {tuple(sorted(labels)) for name, labels in found if name == "retort_http_requests_total"}
    assert (("method", "GET"), ("route", "/v1/jobs/{job_id}"), ("status", "200")) in counted
    assert (("method", "POST"), ("route", "/v1/jobs"), ("status", "200")) in counted
    assert (("method", "GET"), ("route", "other"), ("status", "404")) in counted
    assert not any("BREW" in value or job["id"] in value for labels in counted for _, value in labels)


def test_queues_have_a_length_and_an_age(stack: Stack) -> None:
    # For a tier that nobody offers here, so that it waits.
    waits = stack.table.add(runtime="runsc", priority="batch")
    put_off = stack.table.add(runtime="runsc", priority="batch")
    with stack.table.engine.begin() as connection:
        old = "UPDATE jobs SET created_at = now() - interval '90 seconds' WHERE id = %s"
        connection.exec_driver_sql(old, (waits,))
        later = "UPDATE jobs SET rung_at = now() + interval '1 hour', created_at = '2020-01-01' WHERE id = %s"
        connection.exec_driver_sql(later, (put_off,))
    queue = frozenset({("queue", "sandbox.runsc.batch")})

    def look() -> bool:
        found = _samples(stack.client.get("/metrics").text)
        return (
            found["retort_queue_jobs", queue] == 2
            and found["retort_queue_postponed_jobs", queue] == 1
            and 90 <= found["retort_queue_oldest_seconds", queue] < 1000
            and found["retort_jobs_unfinished", frozenset({("state", "queued")})] >= 2
        )

    eventually(look, "the queue is seen")
    stack.table.set(waits, state="cancelled", finished_at=func.now())
    stack.table.set(put_off, state="cancelled", finished_at=func.now())


def test_a_job_is_one_trace_from_the_request_to_the_container(stack: Stack) -> None:
    given = f"00-{TRACE}-{SPAN}-01"
    job = stack.run({"code": "print(1)", "env": {"WORD": SECRET}}, traceparent=given)
    spans = stack.trace(
        TRACE, "POST /v1/jobs", "retort.running", "retort.record", "retort.claim", "retort.queue"
    )
    request, step = spans["POST /v1/jobs"], spans["retort.running"]
    assert (request.service, request.parent_id, request.kind) == ("retort-api", SPAN, 2)
    assert request.attributes[words.HTTP_STATUS] == 200
    assert (step.service, step.parent_id, step.kind) == ("retort-worker", request.span_id, 5)
    assert step.attributes[words.JOB_ID] == job["id"]
    assert step.attributes[words.QUEUE] == "sandbox"
    for name in ("retort.queue", "retort.claim", "retort.sandbox.take", "retort.sandbox.run", "retort.record"):
        assert spans[name].parent_id == step.span_id, name
    assert spans["retort.sandbox.run"].began >= spans["retort.sandbox.take"].ended
    assert len(spans["retort.sandbox.run"].attributes[words.CONTAINER]) == 64


def test_questions_to_models_are_spans_by_the_conventions(stack: Stack) -> None:
    trace_id = "1" * 32
    stack.run({"task": "[scripted:wrong-then-right] greet"}, traceparent=f"00-{trace_id}-{SPAN}-01")
    eventually(lambda: len(stack.collector.of(trace_id).get("retort.record", ())) == 2, "both rounds are told")
    found = stack.collector.of(trace_id)
    steps = {span.span_id: span for span in found["retort.generating"]}
    calls = found["chat gpt-4.1"]
    assert len(calls) == len(steps) == 2
    for call in calls:
        assert call.parent_id in steps
        assert call.kind == 3
        said = call.attributes
        assert said["gen_ai.operation.name"] == "chat"
        assert said["gen_ai.request.model"] == "gpt-4.1"
        assert said["gen_ai.provider.name"] == "default"
        assert said["gen_ai.usage.input_tokens"] > 0
        assert said["gen_ai.usage.output_tokens"] > 0
        assert said["gen_ai.response.finish_reasons"] == ["stop"]
        assert not call.failed
    assert len(found["retort.queue"]) == 1


def test_a_client_that_does_not_sample_is_not_traced(stack: Stack) -> None:
    trace_id = "2" * 32
    stack.run({"code": "print(1)"}, traceparent=f"00-{trace_id}-{SPAN}-00")
    after = stack.run({"code": "print(1)"})  # sent after it, so told after it
    stack.trace(str(stack.table.get(UUID(after["id"])).traceparent).split("-")[1], "retort.running")
    assert stack.collector.of(trace_id) == {}


def test_no_word_of_anybody_is_in_traces_or_metrics(stack: Stack) -> None:
    words_ = ["whispered-output", "whispered-label", SECRET, "whispered_name", KEY]
    stack.run(
        {
            "code": f"whispered_name = 1; print('{words_[0]}'); print(open('/nowhere'))",
            "env": {"WORD": SECRET},
            "labels": {"a": words_[1]},
        },
        traceparent=f"00-{'3' * 32}-{SPAN}-01",
    )
    stack.run({"task": "[scripted:right] whispered_name"}, traceparent=f"00-{'4' * 32}-{SPAN}-01")
    stack.trace("3" * 32, "retort.record")
    stack.trace("4" * 32, "retort.record")
    told = b"".join(stack.collector.bodies)
    told += stack.client.get("/metrics").content + stack.metrics(stack.worker.log).encode()
    told += stack.server.log.read_bytes() + stack.worker.log.read_bytes()
    assert [word for word in words_ if word.encode() in told] == []
    assert b"print(" not in told
    assert b"Bearer" not in told


def test_a_failure_of_ours_is_logged_once_with_its_ids(stack: Stack) -> None:
    lines = stack.worker.log.read_text().count("\n")
    job_id = stack.table.add(profile="gone", traceparent=f"00-{'5' * 32}-{SPAN}-00", env={"WORD": SECRET})
    stack.broker.ring(job_id)
    eventually(lambda: stack.table.get(job_id).state == "broken", "a job of an unknown profile is given up")
    told = [json.loads(line) for line in stack.worker.log.read_text().splitlines()[lines:]]
    (line,) = [each for each in told if each["level"] in ("ERROR", "CRITICAL")]
    assert (line["job_id"], line["attempt"], line["trace_id"]) == (str(job_id), 1, "5" * 32)
    assert (line["service"], line["instance"]) == ("worker", stack.worker.instance)
    assert "gone" in line["message"]
    assert SECRET not in stack.worker.log.read_text()


def test_a_defect_in_a_step_is_logged_once_and_the_job_waits_for_its_lease(stack: Stack) -> None:
    before = _samples(stack.metrics(stack.worker.log))
    lines = stack.worker.log.read_text().count("\n")
    job_id = stack.table.add("print(1)", limits={"timeout_s": "no number"})
    stack.broker.ring(job_id)
    eventually(lambda: "a step failed" in stack.worker.log.read_text(), "it fails")
    told = [json.loads(line) for line in stack.worker.log.read_text().splitlines()[lines:]]
    mine = [each for each in told if each["level"] == "ERROR"]
    assert [(each["job_id"], each["trace_id"]) for each in mine] == [(str(job_id), job_id.hex)]
    assert "Traceback" in mine[0]["error"]
    after = _samples(stack.metrics(stack.worker.log))
    key = ("retort_step_errors_total", frozenset({("step", "running")}))
    assert after[key] - before.get(key, 0.0) == 1
    stack.table.set(job_id, state="cancelled", lease_token=None, lease_until=None, finished_at=func.now())


def test_logs_of_the_api_have_request_and_trace(stack: Stack) -> None:
    given = {"traceparent": f"00-{'6' * 32}-{SPAN}-01", "X-Request-ID": "mine-1"}
    job = stack.run({"code": "print(1)"}, **given)
    found: list[dict[str, Any]] = []

    def look() -> bool:  # the answer may be there before its line is
        found[:] = [each for each in stack.server.lines() if each.get("request_id") == "mine-1"]
        return bool(found)

    eventually(look, "the request is logged")
    (line,) = found
    assert (line["service"], line["trace_id"], line["job_id"]) == ("api", "6" * 32, job["id"])


def _samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_switched_off_nothing_that_makes_or_sends_spans_is_loaded() -> None:
    # Redis' client loads OpenTelemetry's own words where they are installed; that is not ours to say.
    look = """
import sys, api.main, worker.main, worker.hooks.main
parts = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf")
print([name for name in sys.modules if name.startswith(parts)])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", look]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
