"""Processes that send webhooks: patience that ends, several at once, one that dies, one with a wrong key."""

import time
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import text

from tests.conftest import Services
from tests.harness import eventually
from tests.integration.webhooks.hooks import ALLOWED, KEY, SCALED, Hooks
from tests.receivers import Receiver, sending


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
