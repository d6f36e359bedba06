"""Waiting for a job's end: woken by a message, by the poll where it was lost, or sent away in time."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
import redis

from tests.harness import eventually
from tests.integration.api.harness import Server, Store

CODE = {"code": "print(1)"}
Connect = Callable[..., httpx.Client]


@contextmanager
def posting(client: httpx.Client, prefer: str) -> Iterator["Future[httpx.Response]"]:
    """A job being submitted by somebody who waits."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(client.post, "/v1/jobs", json=CODE, headers={"Prefer": prefer})


def stored(store: Store) -> UUID:
    eventually(lambda: store.only_job() is not None and store.rings() > 0, "the job is stored and rung for")
    job_id = store.only_job()
    assert job_id is not None
    return job_id


@pytest.mark.parametrize("publish", [True, False], ids=["message", "lost message"])
def test_post_waits_for_the_end(client: httpx.Client, store: Store, publish: bool) -> None:
    with posting(client, "respond-async, wait=50") as answer:
        store.finish(stored(store), publish=publish, stdout=b"1\n")
        job = answer.result(30)
    assert (job.status_code, job.headers["preference-applied"]) == (200, "wait=50")
    assert (job.json()["state"], job.json()["stdout"]) == ("finished", "1\n")
    assert job.headers["location"] == job.json()["links"]["self"]


def test_post_does_not_wait_longer_than_preferred(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json=CODE, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize("prefer", ["", "wait", "wait=", "wait=-1", "wait=x", "wait=1.5", "wait=0", "hold=9"])
def test_what_is_no_preference_is_ignored(client: httpx.Client, prefer: str) -> None:
    answer = client.post("/v1/jobs", json=CODE, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_long_waits_are_capped(start: Callable[..., Server], connect: Connect) -> None:
    client = connect(start(max_wait_s="1").url)
    answer = client.post("/v1/jobs", json=CODE, headers={"Prefer": "wait=3600"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")


@pytest.mark.parametrize("publish", [True, False], ids=["message", "lost message"])
def test_get_waits_for_the_end(client: httpx.Client, store: Store, publish: bool) -> None:
    job = client.post("/v1/jobs", json=CODE).json()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, job["links"]["self"], params={"wait": 50})
        store.finish(UUID(job["id"]), publish=publish)
        assert answer.result(30).json()["state"] == "finished"
    assert client.get(job["links"]["self"], params={"wait": 50}).json()["state"] == "finished"


def test_many_wait_for_one_job(client: httpx.Client, store: Store) -> None:
    job = client.post("/v1/jobs", json=CODE).json()
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(client.get, job["links"]["self"], params={"wait": 50}) for _ in range(20)]
        store.finish(UUID(job["id"]))
        assert {answer.result(30).json()["state"] for answer in answers} == {"finished"}


def test_noise_on_the_bus_wakes_nobody_and_breaks_nothing(client: httpx.Client, store: Store) -> None:
    with posting(client, "wait=50") as answer:
        job_id = stored(store)
        for noise in (
            b"",
            b"\xff",
            b"x",
            b"x finished",
            f"{job_id}",
            f"{job_id} running",
            f"{UUID(int=7)} finished",
        ):
            store.redis.publish("retort:states", noise)
        store.finish(job_id)
        assert answer.result(30).json()["state"] == "finished"


def test_waiters_are_bounded_and_freed_when_their_client_leaves(
    start: Callable[..., Server], connect: Connect, store: Store
) -> None:
    served = start(max_waiters="1")
    leaving = httpx.Client(base_url=served.url, headers=connect(served.url).headers, timeout=0.5)
    with pytest.raises(httpx.ReadTimeout):
        leaving.post("/v1/jobs", json=CODE, headers={"Prefer": "wait=50"})

    def waits() -> bool:
        answer = connect(served.url).post("/v1/jobs", json=CODE, headers={"Prefer": "wait=1"})
        return "preference-applied" in answer.headers

    leaving.close()
    eventually(waits, "the place is free again")


def test_too_many_waiters_are_answered_at_once(
    start: Callable[..., Server], connect: Connect, store: Store
) -> None:
    served = start(max_waiters="1")
    first, second = connect(served.url), connect(served.url)
    with posting(first, "wait=50") as answer:
        job_id = stored(store)
        refused = second.post("/v1/jobs", json=CODE, headers={"Prefer": "wait=50"})
        assert refused.status_code == 202
        assert "preference-applied" not in refused.headers
        store.finish(job_id)
        assert answer.result(30).status_code == 200


def test_stopping_sends_waiting_clients_away(
    start: Callable[..., Server], connect: Connect, store: Store
) -> None:
    served = start()
    with posting(connect(served.url), "wait=50") as answer:
        stored(store)
        served.process.send_signal(signal.SIGTERM)
        assert (answer.result(30).status_code, answer.result().json()["state"]) == (202, "queued")
    assert served.process.wait(30) in {0, -signal.SIGTERM}


def test_a_lost_subscription_is_made_again(client: httpx.Client, store: Store) -> None:
    def subscribers() -> Any:
        return store.redis.pubsub_numsub("retort:states")[0][1]

    eventually(lambda: subscribers() > 0, "the API listens")
    store.redis.client_kill_filter(_type="pubsub")
    with posting(client, "wait=50") as answer:
        store.finish(stored(store))
        assert answer.result(30).status_code == 200
    eventually(lambda: subscribers() > 0, "the API listens again")


def test_a_dead_broker_fails_no_request(start: Callable[..., Server], connect: Connect, store: Store) -> None:
    with redis.Redis.from_url("redis://127.0.0.1:1") as nobody, pytest.raises(redis.ConnectionError):
        nobody.ping()
    served = start(redis_url="redis://127.0.0.1:1")
    client = connect(served.url)
    for _ in range(3):
        assert client.post("/v1/jobs", json=CODE).status_code == 202
    assert store.count_jobs() == 3
    eventually(
        lambda: any("broker does not answer" in line["message"] for line in served.lines()), "it is logged"
    )
    assert sum("broker does not answer" in line["message"] for line in served.lines()) == 1
    # Ends are still seen: the poll does not need the bus.
    job = client.post("/v1/jobs", json=CODE).json()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, job["links"]["self"], params={"wait": 50})
        store.finish(UUID(job["id"]), publish=False)
        assert answer.result(30).json()["state"] == "finished"
    ready = client.get("/readyz").json()
    assert ready["redis"] == {"ready": False, "why_not": "does not answer"}
