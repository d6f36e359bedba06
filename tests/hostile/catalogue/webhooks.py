"""Webhooks turned against us: aimed inwards, or at receivers that misbehave."""

import json
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.harness import eventually
from tests.hostile.entries import Document, Story
from tests.hostile.stage import RECEIVER_HOST, Stage
from tests.receivers import Answer, receiving, redirect

JOB = {"code": "print('told')"}


def _create(client: httpx.Client, url: str) -> Document:
    answer = client.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 201, answer.text
    made: Document = answer.json()
    return made


def _log(client: httpx.Client, hook: Document) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(hook["links"]["deliveries"]).json()["deliveries"]
    return found


def _delete_all(client: httpx.Client) -> None:
    for hook in client.get("/v1/webhooks").json()["webhooks"]:
        assert client.delete(hook["links"]["self"]).status_code == 204


def webhooks_inwards(stage: Stage) -> None:
    """Every spelling of an address inside is refused, and so is being sent there by a receiver."""
    valkey = 6379
    with receiving() as inside, receiving(RECEIVER_HOST) as outside:
        port = inside.port
        for url in (
            f"http://127.0.0.1:{port}/",
            f"http://127.1:{port}/",
            f"http://0x7f.1:{port}/",
            f"http://0x7f000001:{port}/",
            f"http://2130706433:{port}/",
            f"http://017700000001:{port}/",
            f"http://[::ffff:127.0.0.1]:{port}/",
            f"http://[::1]:{port}/",
            f"http://[::]:{port}/",
            f"http://0.0.0.0:{port}/",
            f"http://localhost:{port}/",
            f"http://localhost.:{port}/",
            f"http://x.localhost:{port}/",
            f"http://{RECEIVER_HOST}@127.0.0.1:{port}/",
            f"http://{RECEIVER_HOST}\\@127.0.0.1:{port}/",
            f"http://127.0.0.1:{port}#@{RECEIVER_HOST}/",
            f"http://127.0.0.1:{valkey}/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://10.0.0.1/",
            "http://[64:ff9b::7f00:1]/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_FLUSHALL",
            "unix:///var/run/docker.sock",
            f"{stage.server.url}/v1/jobs",
        ):
            answer = stage.mallory.post("/v1/webhooks", json={"url": url})
            assert answer.status_code == 422, (url, answer.text)
            made = _create(stage.mallory, outside.url)
            changed = stage.mallory.patch(made["links"]["self"], json={"url": url})
            assert changed.status_code == 422, (url, changed.text)
            _delete_all(stage.mallory)
        targets = iter([inside.url, "http://169.254.169.254/", "file:///etc/passwd", stage.server.url])
        hook = _create(stage.mallory, outside.url)
        outside.answer = lambda _: redirect(next(targets, inside.url))
        stage.submit(stage.mallory, JOB)
        eventually(lambda: len(outside.received) > 3, "it is tried again")
        assert inside.received == []
        assert {each["response_status"] for each in _log(stage.mallory, hook)} == {307}
        _delete_all(stage.mallory)


def webhooks_that_hang(stage: Stage) -> None:
    """Receivers that fail, hang or never end: tried again for a while, then given up. No job waits for them."""
    with receiving(RECEIVER_HOST) as receiver:
        answers: dict[str, Answer] = {
            "/fails": 500,
            "/hangs": receiver.hang,
            "/never_begins": receiver.never_begin,
            "/endless_head": receiver.endless_head,
            "/redirects": redirect(receiver.url),
        }
        receiver.answer = lambda got: answers.get(got.path, receiver.never_stop)
        base = receiver.url.removesuffix(urlsplit(receiver.url).path)
        bad = [_create(stage.mallory, base + path) for path in answers]
        good = _create(stage.alice, f"{base}/never_stops")
        result = stage.submit(stage.mallory, JOB)
        assert result.job["stdout"] == "told\n"
        stage.submit(stage.alice, JOB)
        eventually(lambda: _log(stage.alice, good)[-1]["state"] == "delivered", "a neighbour is told")
        for hook in bad:
            eventually(lambda hook=hook: _log(stage.mallory, hook)[0]["state"] == "failed", "it is given up")  # type: ignore[misc]
            (told,) = _log(stage.mallory, hook)
            assert told["attempts"] > 1
            assert len(json.dumps(told)) < 2000
        _delete_all(stage.mallory)
        _delete_all(stage.alice)


ENTRIES = [
    Story("webhooks_inwards", webhooks_inwards, fast=True),
    Story("webhooks_that_hang", webhooks_that_hang),
]
