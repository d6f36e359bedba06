"""Tiers as callers see them: asked for, bound to, not offered; and what workers report, put together."""

import os
import subprocess
import sys
from typing import Any
from uuid import UUID

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, text

from api import keys
from domain.bell import ALL_QUEUES, SANDBOX_QUEUE
from domain.states import Runtime
from domain.tables.job import jobs
from domain.worker_statements import REPORT_WORKER
from tests.harness import ROOT, eventually
from tests.integration.api.harness import Server, Store
from worker.sandbox.statistics import Histogram, PoolStats

CODE = {"code": "print(1)"}


def report(store: Store, instance: str, *runtimes: str, refusals: dict[str, str] | None = None) -> None:
    """A worker says what it offers."""
    stats = PoolStats(warm=6, cold=2, reused=2, started=9, idle=3, busy=1, memory_mb=100)
    stats.waits.add(0.4)
    for runtime in runtimes:
        stats.starts[runtime] = Histogram()
        stats.starts[runtime].add(0.12)
        stats.starts[runtime].add(99)
    facts = {"runtimes": list(runtimes), "refusals": refusals or {}, "pool": stats.as_dict()}
    with store.engine.begin() as connection:
        said = {"instance": instance, "ready": True, "why_not": None, "facts": facts}
        connection.execute(REPORT_WORKER, said)


def bind(store: Store, runtime: Runtime | None) -> None:
    """Bind the tests' caller."""
    with store.engine.begin() as connection:
        assert keys.bind(connection, "alice", runtime)


def runtime_of(store: Store, job_id: str) -> str:
    """The tier that is stored with a job."""
    with store.engine.begin() as connection:
        return str(connection.execute(select(jobs.c.runtime).where(jobs.c.id == UUID(job_id))).scalar_one())


def refused(answer: httpx.Response) -> Any:
    """The one field that is wrong."""
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == "runtime"
    return error


def test_a_job_runs_where_it_asks_to(client: httpx.Client, store: Store) -> None:
    for asked, stored in ((None, "runc"), ("runc", "runc"), ("runsc", "runsc")):
        job = client.post("/v1/jobs", json={**CODE, "runtime": asked}).json()
        assert job["runtime"] == stored == runtime_of(store, job["id"])
        assert client.get(job["links"]["self"]).json()["runtime"] == stored
    eventually(lambda: store.redis.llen(SANDBOX_QUEUE) == 2, "two rings for runc")
    eventually(lambda: store.redis.llen("sandbox.runsc") == 1, "one for runsc")


def test_a_tier_that_does_not_exist_is_refused(client: httpx.Client) -> None:
    assert refused(client.post("/v1/jobs", json={**CODE, "runtime": "kata"}))["allowed"] == ["runc", "runsc"]


def test_a_bound_caller_gets_its_tier_or_nothing(client: httpx.Client, store: Store) -> None:
    bind(store, Runtime.RUNSC)
    job = client.post("/v1/jobs", json=CODE).json()
    assert runtime_of(store, job["id"]) == "runsc"
    assert refused(client.post("/v1/jobs", json={**CODE, "runtime": "runc"}))["allowed"] == ["runsc"]
    bind(store, None)
    assert client.post("/v1/jobs", json={**CODE, "runtime": "runc"}).status_code == 202


def test_a_tier_that_nobody_offers_is_told_at_once(client: httpx.Client, store: Store) -> None:
    report(store, "a", "runc")

    def told() -> bool:
        return client.post("/v1/jobs", json={**CODE, "runtime": "runsc"}).status_code == 422

    eventually(told, "the API knows what is offered")
    error = refused(client.post("/v1/jobs", json={**CODE, "runtime": "runsc"}))
    assert error["allowed"] == ["runc"]
    assert client.post("/v1/jobs", json=CODE).status_code == 202
    bind(store, Runtime.RUNSC)  # no other tier stands in for it
    assert refused(client.post("/v1/jobs", json=CODE))["allowed"] == []
    report(store, "b", "runsc")
    eventually(lambda: client.post("/v1/jobs", json=CODE).status_code == 202, "a worker has come that has it")
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM workers"))
    # Nobody at all: workers may be restarting, so nothing is known and nothing refused.
    eventually(lambda: client.post("/v1/jobs", json=CODE).status_code == 202, "jobs wait for a worker")


def test_readiness_tells_of_each_tier(client: httpx.Client, store: Store) -> None:
    report(store, "a", "runc", "runsc", refusals={"runsc": "not what it must be"})
    assert client.get("/readyz").json()["tiers"] == {"runc": True, "runsc": False}


def test_stats_are_sums_over_workers(client: httpx.Client, store: Store) -> None:
    report(store, "a", "runc")
    report(store, "b", "runc", "runsc")
    found = client.get("/v1/stats").json()["sandbox"]
    assert (found["workers"], found["workers_ready"], found["tiers"]) == (2, 2, {"runc": True, "runsc": True})
    assert found["lent"] == {"warm": 12, "cold": 4, "reused": 4}
    assert found["hit_rate"] == 0.8
    assert found["cells"]["idle"] == 6
    assert found["memory_mb"] == 200
    runc = found["start_seconds"]["runc"]
    assert (runc["count"], runc["sum_s"]) == (4, 198.24)
    assert [pair for pair in runc["buckets"] if pair[0] in (0.1, 0.15)] == [[0.1, 0], [0.15, 2]]
    assert found["start_seconds"]["runsc"]["count"] == 2


def test_stats_of_nobody(client: httpx.Client, store: Store) -> None:
    found = client.get("/v1/stats").json()["sandbox"]
    assert (found["workers"], found["hit_rate"], found["start_seconds"]) == (0, None, {})


def test_metrics_are_what_prometheus_reads(server: Server, store: Store) -> None:
    report(store, "a", "runc")
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    lent = {s.labels["start"]: s.value for s in families["retort_sandbox_lent"].samples}
    assert lent == {"warm": 6, "cold": 2, "reused": 2}
    starts = families["retort_sandbox_start_seconds"].samples
    assert {"worker": "a", "runtime": "runc", "le": "+Inf"} in [s.labels for s in starts]
    assert families["retort_worker_ready"].samples[0].value == 1
    depths = {s.labels["queue"] for s in families["retort_queue_messages"].samples}
    assert depths == set(ALL_QUEUES) >= {"sandbox", "sandbox.runsc.batch", "model"}


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_binding_from_the_command_line(store: Store, key: str, database_url: str, name: str) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "api.keys", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RETORT_DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("bind", name, "runsc")
    assert done.returncode == (0 if name == "alice" else 1)
    assert ("bound to runsc" in run("list").stdout) == (name == "alice")
    assert run("bind", name, "kata").returncode == 2
