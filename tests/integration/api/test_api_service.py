"""The service around the jobs: health, errors of ours, what is not there, what it says of itself."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api import problems, request_schemas
from domain.worker_statements import REPORT_WORKER
from retort.embedded import Postgres
from tests.conftest import migrate
from tests.harness import eventually
from tests.integration.api.harness import Contract, Server, Store

Connect = Callable[..., httpx.Client]
CODE = {"code": "print(1)"}


def report(store: Store, instance: str, *, why_not: str | None = None) -> None:
    with store.engine.begin() as connection:
        connection.execute(
            REPORT_WORKER,
            {"instance": instance, "ready": why_not is None, "why_not": why_not, "facts": {"secret": "x"}},
        )


def test_healthz_needs_nothing(start: Callable[..., Server], connect: Connect) -> None:
    served = start(database_url="postgresql+psycopg://u:hunter2@127.0.0.1:1/x", redis_url="redis://127.0.0.1:1")
    client = connect(served.url)
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["database"] == {"ready": False, "why_not": "does not answer"}
    assert ready.json()["workers"]["ready"] is False
    answer = client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:retort:problem:unavailable")
    assert answer.headers["retry-after"] == "2"
    served.stop()
    assert "hunter2" not in served.log.read_text()


def test_readyz_asks_for_a_ready_worker(server: Server, connect: Connect, store: Store) -> None:
    client = connect(server.url, None)
    nobody = client.get("/readyz")
    assert (nobody.status_code, nobody.json()["workers"]["ready"]) == (503, False)
    report(store, "a", why_not="the container engine does not answer")
    unready = client.get("/readyz")
    assert unready.json()["workers"]["why_not"] == "the container engine does not answer"
    report(store, "b")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert "secret" not in ready.text


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/", "/v1/jobs/", "/v1/nothing", "/docs", "/redoc", "//v1/jobs"]
)
def test_what_is_not_there(client: httpx.Client, path: str) -> None:
    answer = client.get(f"{client.base_url}{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:retort:problem:not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/jobs", {"GET", "POST"}),
        ("PUT", "/v1/jobs/x", {"DELETE", "GET"}),
        ("OPTIONS", "/v1/jobs", {"GET", "POST"}),
        ("POST", "/healthz", {"GET"}),
    ],
)
def test_wrong_methods(client: httpx.Client, method: str, path: str, allowed: set[str]) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (405, "urn:retort:problem:method-not-allowed")
    assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed
    assert "access-control-allow-origin" not in answer.headers


def test_a_database_that_goes_away_and_comes_back(
    start: Callable[..., Server], connect: Connect, redis_url: str, tmp_path: Path
) -> None:
    postgres = Postgres(tmp_path / "p", Path("/tmp") / f"rt-{tmp_path.name[-20:]}")
    postgres.start()
    try:
        migrate(postgres.url)
        store = Store(postgres.url, redis_url)
        client = connect(start(database_url=postgres.url).url, store.key("alice"))
        store.close()
        job = client.post("/v1/jobs", json=CODE).json()
        postgres.stop()
        answer = client.get(job["links"]["self"])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        postgres.start()
        # The first request already: it finds its pooled connection dead and takes another.
        assert client.get(job["links"]["self"]).status_code == 200
        postgres.stop()
        postgres.start()
        assert client.post("/v1/jobs", json=CODE).status_code == 202
    finally:
        postgres.stop()


def test_a_database_that_hangs(start: Callable[..., Server], connect: Connect, store: Store) -> None:
    client = connect(start(database_timeout_s="0.3", database_pool_size="2").url)
    job = client.post("/v1/jobs", json=CODE).json()
    with store.engine.begin() as connection:
        connection.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        for _ in range(3):  # more than there are connections: a hanging one is not lost
            assert client.post("/v1/jobs", json=CODE).status_code == 503
        assert client.get(job["links"]["self"]).status_code == 503
        assert client.get("/v1/jobs").status_code == 503
        assert client.get("/healthz").status_code == 200
    assert client.post("/v1/jobs", json=CODE).status_code == 202
    assert client.get(job["links"]["self"]).json() == job
    assert store.count_jobs() == 2


def test_a_pipe_that_is_no_http(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.sendall(b"\x16\x03\x01\x00\xa5\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_missing_settings_are_named(start: Callable[..., Server]) -> None:
    with pytest.raises(AssertionError, match="RETORT_MAX_BODY_BYTES"):
        start(max_body_bytes="lots")


# --- the OpenAPI document; tests hold all real answers against it ------------------------------------


def test_openapi_declares_each_route_in_full(contract: Contract) -> None:
    for path, methods in contract.paths.items():
        for method, said in methods.items():
            assert said["summary"], (method, path)
            guarded = path.startswith("/v1/")
            assert said.get("security") == ([{"key": []}] if guarded else None)
            assert ("401" in said["responses"]) is guarded
            assert "500" in said["responses"]
            for status, response in said["responses"].items():
                media_types = set(response.get("content", ()))
                if (path, status) == ("/v1/jobs/{job_id}/events", "200"):
                    assert media_types == {"text/event-stream"}
                    continue
                if status in {"204", "304"}:
                    assert not media_types
                    continue
                readiness = (path, status) == ("/readyz", "503")
                expected = "application/json" if status < "400" or readiness else problems.MEDIA_TYPE
                if status in {"204", "304"}:
                    assert media_types == set()
                elif (path, status) == ("/v1/batches/{batch_id}/results", "200"):
                    assert media_types == {"application/x-ndjson"}
                elif path in {"/v1/stats", "/v1/usage"} and status == "200":
                    assert media_types == {"application/json", "text/csv"}
                elif path.endswith("/artifacts/{name}") and status < "400":
                    assert media_types == {"*/*"}
                else:
                    assert media_types == {expected}, (method, path, status)
    post = contract.paths["/v1/jobs"]["post"]
    assert post["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/JobRequest"
    }
    assert {"200", "202", "400", "408", "413", "415", "422", "503"} <= post["responses"].keys()


def test_openapi_resolves_and_its_examples_work(server: Server, client: httpx.Client, store: Store) -> None:
    store.serve_models("gpt-4.1")
    document: dict[str, Any] = httpx.get(f"{server.url}/openapi.json").json()
    defined = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(_references(document)) <= defined
    assert "HTTPValidationError" not in document["components"]["schemas"]
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        assert client.post("/v1/jobs", json=example["value"]).status_code == 202
    assert document["components"]["schemas"]["JobRequest"]["additionalProperties"] is False
    assert set(request_schemas.JobRequest.model_fields) == set(
        document["components"]["schemas"]["JobRequest"]["properties"]
    )


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [r for child in node.values() for r in _references(child)]
    if isinstance(node, list):
        return [r for child in node for r in _references(child)]
    return []


def test_idle_connections_cost_no_request(server: Server, client: httpx.Client) -> None:
    port = int(server.url.rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for connection in idle[:100]:
            connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert client.get("/v1/jobs").status_code == 200
    finally:
        for connection in idle:
            connection.close()
    eventually(lambda: client.get("/healthz").status_code == 200, "it still answers")
