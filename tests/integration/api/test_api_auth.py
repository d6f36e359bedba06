"""Nothing below /v1 without a valid key in the right place, and no key in any answer or log."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest

from api import keys
from domain.ids import new_api_key
from tests.harness import eventually
from tests.integration.api.harness import ROOT, Contract, Server, Store

Connect = Callable[..., httpx.Client]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer rt_",
        "Bearer rt_" + "x" * 43,
        "Bearer rt_" + "x" * 10_000,
        "Bearer {key}x",
        "Bearer {key} {key}",
        "Bearer {key},",
        "{key}",
        "Basic {key}",
        "Token {key}",
        "Bearer rt_\xe9",
        "Bearer ' OR 1=1 --",
    ],
)
def test_wrong_headers(server: Server, contract: Contract, store: Store, key: str, header: str) -> None:
    value = header.format(key=key).encode("latin-1")
    with httpx.Client(base_url=server.url, event_hooks={"response": [contract.check]}) as client:
        answer = client.post("/v1/jobs", json={"code": "1"}, headers={b"Authorization": value})
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:retort:problem:unauthorized")
    assert key not in answer.text
    assert store.count_jobs() == 0


def test_the_scheme_has_no_case(server: Server, key: str) -> None:
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {key}"}
        assert httpx.get(f"{server.url}/v1/jobs", headers=headers).status_code == 200


def test_two_headers_are_refused(server: Server, key: str) -> None:
    twice = [("Authorization", f"Bearer {key}")] * 2
    assert httpx.get(f"{server.url}/v1/jobs", headers=twice).status_code == 401


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "token", "Authorization"])
def test_a_key_in_the_query_is_no_key(server: Server, connect: Connect, key: str, name: str) -> None:
    answer = connect(server.url, None).get("/v1/jobs", params={name: key})
    assert answer.status_code == 401
    # With a good header too, it is refused: it would end in somebody's access log.
    answer = connect(server.url).get("/v1/jobs", params={name: key})
    assert answer.status_code == 422
    assert key not in answer.text
    answer = connect(server.url).get(f"/v1/jobs?{key}")
    assert answer.status_code == 422
    assert key not in answer.text


def test_a_revoked_key_is_refused(
    server: Server, start: Callable[..., Server], connect: Connect, store: Store, key: str
) -> None:
    remembering = connect(start().url)
    at_once = connect(server.url)
    for client in (at_once, remembering):
        assert client.get("/v1/jobs").status_code == 200
    with store.engine.begin() as connection:
        (line,) = keys.describe(connection)
        assert keys.revoke(connection, UUID(line.split()[0]))
    assert at_once.get("/v1/jobs").status_code == 401
    eventually(lambda: remembering.get("/v1/jobs").status_code == 401, "the key is forgotten")
    assert store.count_jobs() == 0


def test_no_key_is_ever_logged(start: Callable[..., Server], connect: Connect, key: str) -> None:
    served = start()
    client = connect(served.url)
    client.get("/v1/jobs", params={"key": key})
    client.get(f"/v1/jobs/{key}")
    client.get(f"/{key}", headers={"X-Request-ID": key, "Referer": key, "User-Agent": key})
    client.post("/v1/jobs", json={key: key, "code": key})
    client.post("/v1/jobs", content=key.encode(), headers={"Content-Type": "application/json"})
    connect(served.url, None).get(f"/v1/jobs?api_key={key}")
    job = client.post("/v1/jobs", json={"code": "1"}, headers={"X-Request-ID": "mine-1"})
    assert job.headers["x-request-id"] == "mine-1"
    served.stop()
    log = served.log.read_text()
    assert key not in log
    assert key[3:] not in log
    (line,) = (line for line in served.lines() if line.get("request_id") == "mine-1")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/jobs", 202)
    assert line["job_id"] == job.json()["id"]
    assert line["caller_id"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", "{}", "rt_" + "x" * 43])
def test_a_strange_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    answer = client.get("/v1/jobs", headers={b"X-Request-ID": given.encode("latin-1")})
    assert answer.headers["x-request-id"] not in {given, ""}


# --- python -m api.keys -------------------------------------------------------------------------------


def run_keys(database_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "api.keys", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "RETORT_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_keys_command(server: Server, connect: Connect, store: Store, database_url: str) -> None:
    made = run_keys(database_url, "create", "bob")
    key = made.stdout.strip()
    assert (made.returncode, made.stdout, made.stderr) == (0, f"{key}\n", "")
    assert connect(server.url, key).get("/v1/jobs").status_code == 200
    another = run_keys(database_url, "create", "carol", "--if-none")
    assert (another.returncode, another.stdout) == (0, "")
    listed = run_keys(database_url, "list").stdout
    assert ("bob" in listed, "carol" in listed, key in listed) == (True, False, False)
    ids = {line.split()[2]: line.split()[0] for line in listed.splitlines()}
    for key_id in ids.values():
        assert run_keys(database_url, "revoke", key_id).returncode == 0
        assert run_keys(database_url, "revoke", key_id).returncode == 1
    assert ids.keys() == {"alice", "bob"}
    assert run_keys(database_url, "list").stdout.count("revoked") == 2
    assert connect(server.url, key).get("/v1/jobs").status_code == 401
    assert run_keys(database_url, "create", "carol", "--if-none").stdout.startswith("rt_")


def test_if_none_makes_one_key_only(store: Store) -> None:
    def create(_: int) -> Any:
        with store.engine.begin() as connection:
            return keys.create(connection, "x", if_none=True)

    with ThreadPoolExecutor(5) as pool:
        made = [key for key in pool.map(create, range(10)) if key is not None]
    assert len(made) == 1


@pytest.mark.parametrize("arguments", [["create"], ["revoke", "x"], [], ["steal"]])
def test_wrong_use_of_the_keys_command(database_url: str, arguments: list[str]) -> None:
    assert run_keys(database_url, *arguments).returncode == 2


def test_the_keys_command_without_a_database() -> None:
    assert "RETORT_DATABASE_URL" in run_keys("", "list").stderr
    secret = "postgresql+psycopg://u:hunter2@127.0.0.1:1/x"
    failed = run_keys(secret, "list")
    assert failed.returncode == 1
    assert "hunter2" not in failed.stdout + failed.stderr


def test_keys_do_not_repeat() -> None:
    assert len({new_api_key() for _ in range(100)}) == 100
