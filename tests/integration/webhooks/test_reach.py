"""Where messages may be sent, by the sender alone: names that lead inwards, that change, that are many."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from domain.reach import Reach
from tests.receivers import Receiver, receiving, unused_port
from worker.hooks.sender import Answer, Sender, System


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
