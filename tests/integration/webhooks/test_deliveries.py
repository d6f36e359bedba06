"""Webhooks sent for real, by a service and the process that sends, to receivers on loopback that misbehave."""

import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Services
from tests.harness import eventually
from tests.integration.webhooks.hooks import ALLOWED, KEY, SCALED, Hooks
from tests.receivers import Received, Receiver, receiving, redirect, sending

pytestmark = pytest.mark.usefixtures("sender")


@pytest.fixture(scope="module")
def sender(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[bytes]"]:
    """The process that sends, in scaled time."""
    log = tmp_path_factory.mktemp("hooks") / "log"
    with sending(log, services.database_url, KEY, **SCALED, **ALLOWED) as process:
        yield process


def test_a_job_that_ends_is_told(hooks: Hooks, receiver: Receiver) -> None:
    made = hooks.create(receiver.url)
    job = hooks.ended()
    hooks.arrived(made, 1)
    (got,) = receiver.received
    got.verify(made["secret"])
    assert got.headers["content-type"] == "application/json"
    assert {name: got.event[name] for name in ("type", "data")} == {
        "type": "job.finished.ok",
        "data": {
            "id": job,
            "state": "finished",
            "verdict": "ok",
            "outcome": None,
            "reason": None,
            "language": "python",
            "labels": {},
            "links": {"self": f"/v1/jobs/{job}"},
        },
    }
    (told,) = hooks.log(made)
    assert (told["id"], told["attempts"], told["response_status"]) == (got.id, 1, 204)
    assert (told["last_error"], told["next_at"]) == (None, None)


def test_a_batch_that_ends_is_told(hooks: Hooks, receiver: Receiver) -> None:
    made = hooks.create(receiver.url, events=["batch"])
    batch = hooks.client.post("/v1/batches", json={"jobs": [{"code": "1"}, {"code": "2"}]}).json()
    first, second = hooks.client.get("/v1/jobs", params={"batch": batch["id"]}).json()["jobs"]
    hooks.store.finish(UUID(first["id"]))
    hooks.client.post(f"/v1/jobs/{second['id']}/cancel")
    hooks.arrived(made, 1)
    (got,) = receiver.received
    got.verify(made["secret"])
    data = got.event["data"]
    assert (got.event["type"], data["id"]) == ("batch.finished", batch["id"])
    assert (data["counts"], data["verdicts"]) == ({"finished": 1, "cancelled": 1}, {"ok": 1})


def test_a_receiver_that_fails_for_an_hour_gets_every_event(hooks: Hooks, receiver: Receiver) -> None:
    """An hour is two seconds here. It fails in every way there is, then in one of two, then no more."""
    rng = random.Random(5)  # noqa: S311 (seeded on purpose)
    failures = [500, 503, 429, 404, 301, redirect(receiver.url), receiver.endless_head]
    until = time.monotonic() + 2

    def answer(_: Received) -> Any:
        failing = time.monotonic() < until or rng.random() < 0.2
        return rng.choice(failures) if failing else 200

    receiver.answer = answer
    made = hooks.create(receiver.url)
    with ThreadPoolExecutor(4) as pool:
        jobs = set(pool.map(lambda _: hooks.ended(), range(40)))
    eventually(lambda: hooks.read(made)["failing_since"] is not None, "it fails")
    hooks.arrived(made, 40)
    for got in receiver.received:
        got.verify(made["secret"])
    assert {got.event["data"]["id"] for got in receiver.received} == jobs
    assert len(receiver.ids()) == 40 < len(receiver.received)
    # What is sent again is the same, to the byte.
    assert len({(got.id, got.body) for got in receiver.received}) == 40
    assert hooks.read(made)["failing_since"] is None


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("hang", "no answer within 1 s"),
        ("never_begin", "no answer within 1 s"),
        ("endless_head", "the connection failed"),
    ],
)
def test_a_receiver_that_holds_on_is_left(hooks: Hooks, receiver: Receiver, how: str, error: str) -> None:
    """It is tried again, and neither another receiver nor the job waits for it."""
    receiver.answer = lambda _: getattr(receiver, how)
    made = hooks.create(receiver.url)
    with receiving() as other:
        good = hooks.create(other.url)
        hooks.ended()
        hooks.arrived(good, 1)
        assert error in hooks.failing(made)["last_error"]
        receiver.answer = lambda _: 204
        hooks.arrived(made, 1)


def test_an_answer_without_an_end_is_not_read(hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = lambda _: receiver.never_stop
    made = hooks.create(receiver.url)
    hooks.ended()
    hooks.arrived(made, 1)


def test_redirects_are_not_followed(hooks: Hooks, receiver: Receiver) -> None:
    with receiving() as inside:
        receiver.answer = lambda _: redirect(inside.url)
        made = hooks.create(receiver.url)
        hooks.ended()
        failed = hooks.failing(made)
        assert (failed["response_status"], failed["state"]) == (307, "waiting")
        assert "redirects" in failed["last_error"]
        assert failed["next_at"] is not None
    assert inside.received == []


def test_both_secrets_sign_while_one_replaces_the_other(hooks: Hooks, receiver: Receiver) -> None:
    made = hooks.create(receiver.url)
    turned = hooks.client.post(f"{made['links']['self']}/rotate", json={"overlap_s": 600}).json()
    hooks.ping(made)
    hooks.arrived(made, 1)
    for secret in (made["secret"], turned["secret"]):
        receiver.received[0].verify(secret)
    last = hooks.client.post(f"{made['links']['self']}/rotate", json={"overlap_s": 0}).json()
    hooks.ping(made)
    hooks.arrived(made, 2)
    receiver.received[1].verify(last["secret"])
    assert len(receiver.received[1].headers["webhook-signature"].split()) == 1


def test_who_is_gone_is_told_no_more(hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = lambda _: 410
    made = hooks.create(receiver.url)
    hooks.ended()
    eventually(lambda: not hooks.read(made)["enabled"], "it is disabled")
    assert "gone" in hooks.read(made)["disabled_reason"]
    # What had not arrived then does once it is enabled again.
    receiver.answer = lambda _: 200
    on = hooks.client.patch(made["links"]["self"], json={"enabled": True}).json()
    assert (on["disabled_reason"], on["failing_since"]) == (None, None)
    hooks.arrived(made, 1)
