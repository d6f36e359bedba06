"""Webhooks sent for real: a service, the process that sends, and receivers on loopback that misbehave.

Time is scaled: what takes seconds and hours in earnest takes hundredths and seconds here.
"""

import asyncio
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from domain.reach import Reach
from tests.conftest import Services, empty
from tests.harness import eventually
from tests.integration.api.harness import Server, Store
from tests.receivers import Received, Receiver, receiving, redirect, sending, unused_port
from worker.hooks.sender import Answer, Sender, System

KEY = "a key for the secrets of webhooks, in tests alone"
ALLOWED = {"webhook_networks": "127.0.0.1/32", "webhook_http": "true"}
SCALED = {
    "webhook_timeout_s": "1",
    "webhook_retry_s": "0.05",
    "webhook_retry_most_s": "0.4",
    "webhook_poll_s": "0.05",
}


class Hooks:
    """The service with one caller, and what the tests do with it."""

    def __init__(self, services: Services, server: Server) -> None:
        self.store = Store(services.database_url, services.redis_url)
        headers = {"Authorization": f"Bearer {self.store.key('alice')}"}
        self.client = httpx.Client(base_url=server.url, headers=headers, timeout=60)

    def create(self, url: str, **fields: Any) -> dict[str, Any]:
        """A webhook."""
        answer = self.client.post("/v1/webhooks", json={"url": url, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def ended(self) -> str:
        """A job that has ended: its id."""
        job: str = self.client.post("/v1/jobs", json={"code": "1"}).json()["id"]
        self.store.finish(UUID(job))
        return job

    def ping(self, hook: dict[str, Any]) -> str:
        """A test message: its id."""
        sent: str = self.client.post(f"{hook['links']['self']}/test").json()["id"]
        return sent

    def log(self, hook: dict[str, Any], **params: str) -> list[dict[str, Any]]:
        """The deliveries of a webhook, newest first."""
        path = hook["links"]["deliveries"]
        found: list[dict[str, Any]] = self.client.get(path, params={"limit": "200", **params}).json()[
            "deliveries"
        ]
        return found

    def read(self, hook: dict[str, Any]) -> dict[str, Any]:
        """The webhook as it is now."""
        found: dict[str, Any] = self.client.get(hook["links"]["self"]).json()
        return found

    def arrived(self, hook: dict[str, Any], count: int) -> None:
        """Wait until so many are delivered."""
        eventually(
            lambda: len(self.log(hook, state="delivered")) == count, lambda: f"all arrive: {self.log(hook)}"
        )

    def failing(self, hook: dict[str, Any]) -> dict[str, Any]:
        """Wait until the newest has failed once or more: the delivery."""
        eventually(lambda: self.log(hook)[0]["last_error"] is not None, "it fails")
        return self.log(hook)[0]


@pytest.fixture(scope="module")
def server(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API whose callers may name receivers on loopback."""
    log = tmp_path_factory.mktemp("api") / "log"
    urls = (services.database_url, services.redis_url)
    served = Server(log, *urls, key_cache_s="0", webhook_key=KEY, **ALLOWED)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def sender(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[bytes]"]:
    """The process that sends, in scaled time."""
    log = tmp_path_factory.mktemp("hooks") / "log"
    with sending(log, services.database_url, KEY, **SCALED, **ALLOWED) as process:
        yield process


@pytest.fixture
def hooks(services: Services, server: Server) -> Iterator[Hooks]:
    """Empty tables, and a caller."""
    empty(services)
    opened = Hooks(services, server)
    yield opened
    opened.client.close()
    opened.store.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    with receiving() as made:
        yield made


@pytest.mark.usefixtures("sender")
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


@pytest.mark.usefixtures("sender")
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


@pytest.mark.usefixtures("sender")
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


@pytest.mark.usefixtures("sender")
def test_an_answer_without_an_end_is_not_read(hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = lambda _: receiver.never_stop
    made = hooks.create(receiver.url)
    hooks.ended()
    hooks.arrived(made, 1)


@pytest.mark.usefixtures("sender")
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


@pytest.mark.usefixtures("sender")
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


@pytest.mark.usefixtures("sender")
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


def test_giving_up_and_beginning_anew(
    hooks: Hooks, receiver: Receiver, services: Services, tmp_path: Path
) -> None:
    """Three days of failure end a message, five days a webhook; here it is none and a tenth of a second."""
    receiver.answer = lambda _: 500
    made = hooks.create(receiver.url)
    impatient = {**SCALED, **ALLOWED, "webhook_give_up_s": "0.000001", "webhook_disable_s": "0.1"}
    with sending(tmp_path / "log", services.database_url, KEY, **impatient):
        sent = hooks.ping(made)
        eventually(lambda: [each["state"] for each in hooks.log(made)] == ["failed"], "it is given up")
        time.sleep(0.2)
        hooks.ping(made)
        eventually(lambda: not hooks.read(made)["enabled"], "it is disabled")
        assert "too long" in hooks.read(made)["disabled_reason"]
        receiver.answer = lambda _: 200
        hooks.client.patch(made["links"]["self"], json={"enabled": True})
        again = hooks.client.post(f"{made['links']['deliveries']}/{sent}/redeliver")
        assert again.status_code == 202
        eventually(lambda: hooks.log(made)[1]["state"] == "delivered", "it arrives")
    assert receiver.received[-1].id == sent


def test_senders_share_the_work_and_a_dead_one_loses_nothing(
    hooks: Hooks, receiver: Receiver, services: Services, tmp_path: Path
) -> None:
    receiver.answer = lambda got: receiver.hang if len(receiver.received) <= 3 else 200
    made = hooks.create(receiver.url)
    slow = {**SCALED, **ALLOWED, "webhook_timeout_s": "60"}
    with sending(tmp_path / "one", services.database_url, KEY, **slow) as one:
        for _ in range(20):
            hooks.ended()
        eventually(lambda: len(receiver.received) >= 3, "it has taken some")
        one.kill()
        one.wait(30)
    with hooks.store.engine.begin() as connection:  # its tokens end
        connection.execute(text("UPDATE webhook_deliveries SET next_at = now() WHERE token IS NOT NULL"))
    with ExitStack() as stack:
        for name in ("two", "three"):
            stack.enter_context(sending(tmp_path / name, services.database_url, KEY, **SCALED, **ALLOWED))
        hooks.arrived(made, 20)
    assert len(receiver.ids()) == 20


def test_a_lost_key_is_said(hooks: Hooks, receiver: Receiver, services: Services, tmp_path: Path) -> None:
    made = hooks.create(receiver.url)
    with sending(tmp_path / "log", services.database_url, "another key " * 4, **SCALED, **ALLOWED):
        hooks.ping(made)
        assert "secret cannot be read" in hooks.failing(made)["last_error"]
    assert receiver.received == []


# --- where messages may be sent -----------------------------------------------------------------------


def send(
    url: str,
    resolve: Callable[[str, int], Any] | None = None,
    *,
    networks: str = "127.0.0.1/32",
    times: int = 1,
) -> list[Answer]:
    """Send by the sender alone."""
    system = System()
    sender = Sender(Reach.of(networks), http=True, timeout_s=5, resolve=resolve or system)

    async def all_of_them() -> list[Answer]:
        return [await sender.send(url, {}, b"{}") for _ in range(times)]

    try:
        return asyncio.run(all_of_them())
    finally:
        system.close()


class Resolver:
    """Says what it was told to, one answer after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0)


def test_a_name_that_leads_inwards_is_refused(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    assert [answer.status for answer in send(url, networks="127.0.0.1/32,::1/128")] in ([204], [None])
    (refused,) = send(url, networks="")
    assert refused.status is None
    assert len(receiver.received) <= 1


def test_a_name_is_looked_up_once_and_held_to(receiver: Receiver) -> None:
    """The second look-up would lead to another listener: there is none, and the next message is refused."""
    with receiving("127.0.0.2") as inside:
        resolver = Resolver(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"])
        first, second = send(f"http://rebinds.test:{receiver.port}/", resolver, times=2)
        assert (first.status, first.error) == (204, None)
        assert receiver.received[0].headers["host"] == f"rebinds.test:{receiver.port}"
        assert second.status is None
        assert "nothing is sent" in str(second.error)
        assert resolver.asked == 2
        # The port of the listener inside, with a name that leads there at once and with one among others.
        for answers in (["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], []):
            (refused,) = send(f"http://rebinds.test:{inside.port}/", Resolver(answers))
            assert refused.status is None
        assert inside.received == []


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "10.1.2.3",
        "::ffff:127.0.0.1",
        "::1",
        "fe80::1%lo",
        "224.0.0.1",
        "0.0.0.0",  # noqa: S104
        "64:ff9b::7f00:1",
    ],
)
def test_addresses_that_a_name_may_not_have(address: str) -> None:
    (refused,) = send("http://name.test:8080/", Resolver([address]))
    assert "nothing is sent" in str(refused.error)


def test_nobody_listens() -> None:
    (refused,) = send(f"http://127.0.0.1:{unused_port()}/")
    assert "no connection" in str(refused.error)


def test_what_speaks_no_tls_is_refused(receiver: Receiver) -> None:
    (refused,) = send(receiver.url.replace("http://", "https://"))
    assert refused.status is None
    assert "TLS" in str(refused.error)


def test_the_environments_proxy_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.2:{unused_port('127.0.0.2')}")
    assert [answer.status for answer in send(receiver.url)] == [204]
