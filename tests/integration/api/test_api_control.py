"""Cancel, rerun, delete, and Idempotency-Key, by HTTP."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import httpx
import pytest
from sqlalchemy import text

from domain.bell import CANCELS_CHANNEL
from tests.integration.api.harness import Server, Store

Connect = Callable[..., httpx.Client]
CODE = {"code": "print(1)"}
ROUNDS = 200
AT_ONCE = 50


def submit(client: httpx.Client, key: str | None = None, **fields: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/jobs", json={**CODE, **fields}, headers=headers)


# --- cancel -------------------------------------------------------------------------------------------


def test_cancel_wins(client: httpx.Client, store: Store) -> None:
    job = submit(client).json()
    for _ in range(2):  # once more changes nothing
        answer = client.post(f"{job['links']['self']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert answer.json()["reason"] == "cancelled by its caller"
    assert client.get(job["links"]["self"]).json() == answer.json()


def test_cancel_of_a_running_job_is_told_to_its_worker(client: httpx.Client, store: Store) -> None:
    job = submit(client).json()
    store.claim(UUID(job["id"]))
    bus = store.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    bus.subscribe(CANCELS_CHANNEL)
    bus.get_message(timeout=5)
    answer = client.post(f"{job['links']['self']}/cancel")
    assert answer.json()["attempts"][0]["failure"] == "cancelled"
    heard = bus.get_message(timeout=30)
    assert heard["data"].decode() == job["id"]


def test_cancel_loses(client: httpx.Client, store: Store) -> None:
    job = submit(client).json()
    store.finish(UUID(job["id"]), stdout=b"1\n")
    answer = client.post(f"{job['links']['self']}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:retort:problem:job-ended")
    assert "finished" in answer.json()["detail"]
    assert client.get(job["links"]["self"]).json()["stdout"] == "1\n"


def test_a_waiting_client_hears_of_a_cancel(client: httpx.Client, store: Store) -> None:
    with ThreadPoolExecutor(1) as pool:
        job = submit(client).json()
        answer = pool.submit(client.get, job["links"]["self"], params={"wait": 50})
        client.post(f"{job['links']['self']}/cancel")
        assert answer.result(30).json()["state"] == "cancelled"


# --- rerun --------------------------------------------------------------------------------------------


def test_rerun_repeats_a_job(client: httpx.Client, store: Store) -> None:
    everything: dict[str, Any] = {
        "profile": "extended",
        "limits": {"timeout_s": 170},
        "stdin": "\x00ü",
        "args": ["a"],
        "env": {"A": "1"},
        "labels": {"x": "y"},
        "reuse": "caller",
    }
    job = submit(client, **everything).json()
    again = client.post(f"{job['links']['self']}/rerun")
    assert again.status_code == 202
    assert again.headers["location"] == again.json()["links"]["self"]
    made = ("id", "created_at", "links", "rerun_of")
    assert {k: v for k, v in again.json().items() if k not in made} == {
        k: v for k, v in job.items() if k not in made
    }
    assert again.json()["rerun_of"] == job["id"]
    assert client.get(again.json()["links"]["self"]).json()["rerun_of"] == job["id"]
    with store.engine.begin() as connection:
        rows = connection.execute(text("SELECT code, stdin, args, env FROM jobs")).all()
    assert rows[0] == rows[1]
    # It outlives what it repeats.
    store.finish(UUID(job["id"]))
    assert client.delete(job["links"]["self"]).status_code == 204
    assert client.get(again.json()["links"]["self"]).json()["rerun_of"] is None


def test_rerun_with_changes(client: httpx.Client) -> None:
    job = submit(client, limits={"timeout_s": 5, "memory_mb": 128}).json()
    path = f"{job['links']['self']}/rerun"
    less = client.post(path, json={"limits": {"timeout_s": 7}}).json()
    assert (less["limits"]["timeout_s"], less["limits"]["memory_mb"]) == (7, 128)
    other = client.post(path, json={"profile": "extended"}).json()
    assert (other["profile"], other["limits"]["timeout_s"]) == ("extended", 120)
    for body, field in (
        ({"code": "print(2)"}, "code"),
        ({"language": "cobol"}, "language"),
        ({"limits": {"timeout_s": 1e9}}, "limits.timeout_s"),
        ({"limits": 7}, "limits"),
        ({"id": "x"}, "id"),
    ):
        refused = client.post(path, json=body)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == field


# --- delete -------------------------------------------------------------------------------------------


def test_delete(client: httpx.Client, store: Store) -> None:
    job = submit(client, key="k").json()
    path = job["links"]["self"]
    refused = client.delete(path)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:retort:problem:job-unfinished")
    store.finish(UUID(job["id"]))
    gone = client.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    for again in (client.get(path), client.delete(path), client.post(f"{path}/cancel")):
        assert again.status_code == 404
    with store.engine.begin() as connection:
        for table, count in (("jobs", 0), ("attempts", 0), ("idempotency_keys", 0)):
            found = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
            assert found == count, table


# --- Idempotency-Key ----------------------------------------------------------------------------------


def test_the_same_request_makes_one_job(client: httpx.Client, store: Store) -> None:
    first, second = submit(client, "k1"), submit(client, "k1")
    assert (first.status_code, second.status_code) == (202, 202)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json()
    assert second.headers["location"] == first.headers["location"]
    assert (store.count_jobs(), store.rings()) == (1, 1)
    store.finish(UUID(first.json()["id"]))
    third = submit(client, "k1")
    assert (third.status_code, third.json()["state"]) == (200, "finished")
    # The order of names and the white space are no other request.
    body = b'{ "labels": {}, "code" : "print(1)" }'
    kept = client.post(
        "/v1/jobs", content=body, headers={"Content-Type": "application/json", "Idempotency-Key": "k2"}
    )
    assert submit(client, "k2", labels={}).json()["id"] == kept.json()["id"]


def test_another_request_with_the_same_key_is_refused(client: httpx.Client, store: Store) -> None:
    job = submit(client, "k1").json()
    for refused in (
        submit(client, "k1", code="print(2)"),
        client.post(f"{job['links']['self']}/rerun", headers={"Idempotency-Key": "k1"}),
    ):
        assert (refused.status_code, refused.json()["type"]) == (
            422,
            "urn:retort:problem:idempotency-key-reused",
        )
    assert store.count_jobs() == 1


def test_keys_are_each_callers_own(client: httpx.Client, store: Store, connect: Connect) -> None:
    bob = connect(str(client.base_url), store.key("bob"))
    assert submit(client, "k1").json()["id"] != submit(bob, "k1").json()["id"]
    assert store.count_jobs() == 2


def test_keys_expire(client: httpx.Client, store: Store) -> None:
    first = submit(client, "k1").json()
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'"))
    second = submit(client, "k1", code="print(2)")
    assert second.json()["id"] != first["id"]
    assert submit(client, "k1", code="print(2)").json()["id"] == second.json()["id"]


def test_a_replay_needs_no_room(start: Callable[..., Server], connect: Connect, store: Store) -> None:
    client = connect(start(max_queued_per_caller="1").url)
    job = submit(client, "k1").json()
    assert submit(client, "k2").status_code == 429
    assert submit(client, "k1").json()["id"] == job["id"]


def test_rerun_once(client: httpx.Client, store: Store) -> None:
    job = submit(client).json()
    path = f"{job['links']['self']}/rerun"
    ids = {client.post(path, headers={"Idempotency-Key": "r"}).json()["id"] for _ in range(3)}
    assert (len(ids), store.count_jobs()) == (1, 2)


@pytest.mark.parametrize("given", ["", "a b", "x" * 256, "ü"])
def test_what_is_no_key(client: httpx.Client, store: Store, given: str) -> None:
    answer = client.post("/v1/jobs", json=CODE, headers={b"Idempotency-Key": given.encode("latin-1")})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert store.count_jobs() == 0


def test_two_keys_are_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json=CODE, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert answer.status_code == 422


def test_many_at_once_make_one_job(start: Callable[..., Server], key: str, store: Store) -> None:
    """Fifty at a time, two hundred times: two hundred jobs."""
    url = start(requests_per_s="0").url
    asyncio.run(_many_at_once(f"{url}/v1/jobs", {"Authorization": f"Bearer {key}"}))
    assert store.count_jobs() == ROUNDS
    assert store.rings() == ROUNDS


async def _many_at_once(url: str, headers: dict[str, str]) -> None:
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def post(name: str) -> tuple[int, str, bool]:
            async with session.post(url, json=CODE, headers={"Idempotency-Key": name}) as answer:
                return answer.status, (await answer.json())["id"], "idempotency-replayed" in answer.headers

        for _ in range(ROUNDS):
            name = str(uuid4())
            answers = await asyncio.gather(*(post(name) for _ in range(AT_ONCE)))
            assert {status for status, _, _ in answers} == {202}
            assert len({job_id for _, job_id, _ in answers}) == 1
            assert sum(not replayed for _, _, replayed in answers) == 1
