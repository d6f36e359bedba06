"""What a job looks like, from submission to its list."""

import base64
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from celery import Celery

from domain.bell import ADVANCE, SANDBOX_QUEUE, celery_broker_url
from domain.message import Message
from tests.integration.api.harness import Store


def submit(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={"code": "print(6 * 7)", **fields})
    assert answer.status_code == 202
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    return job


def test_a_submitted_job_reads_as_it_was_answered(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    assert (job["state"], job["verdict"], job["code"]) == ("queued", None, "print(6 * 7)")
    assert job["limits"] == {
        "timeout_s": 60,
        "memory_mb": 512,
        "cpus": 1.0,
        "output_bytes": 1048576,
        "cpu_s": None,
        "compile_s": 30,
    }
    assert UUID(job["id"]).version == 7
    assert client.get(job["links"]["self"]).json() == job
    assert store.rings() == 1


def test_everything_that_may_be_asked_for(client: httpx.Client) -> None:
    job = submit(
        client,
        language="python",
        profile="extended",
        limits={
            "timeout_s": 180,
            "memory_mb": None,
            "cpus": 2,
            "output_bytes": 1024,
            "cpu_s": 7,
            "compile_s": 9,
        },
        stdin="NUL is fine here: \x00",
        args=["--flag", "größe", ""] + ["x"] * 61,
        env={"PATH": "/nowhere", "LD_PRELOAD": "x.so", "RETORT_KEY": "mine", "_": ""},
        labels={"course": "intro", "emoji 🎈": "🎈"},
        reuse="caller",
        runtime="runsc",
        task=None,
    )
    assert job["limits"] == {
        "timeout_s": 180,
        "memory_mb": 1024,
        "cpus": 2.0,
        "output_bytes": 1024,
        "cpu_s": 7,
        "compile_s": 9,
    }
    assert (job["profile"], job["reuse"], job["runtime"]) == ("extended", "caller", "runsc")
    assert job["labels"] == {"course": "intro", "emoji 🎈": "🎈"}
    assert client.get(job["links"]["self"]).json() == job


@pytest.mark.parametrize("code", ["", "'; DROP TABLE jobs; --", "é🎈\u2028\r\n\t", "#" * 2**20])
def test_code_is_kept_as_it_is(client: httpx.Client, code: str) -> None:
    assert client.get(submit(client, code=code)["links"]["self"]).json()["code"] == code


def test_a_finished_job(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    store.retry(UUID(job["id"]))
    store.finish(UUID(job["id"]), verdict="error", exit_code=3, stdout=b"42\n\x00", stderr="größe".encode())
    job = client.get(job["links"]["self"]).json()
    assert (job["state"], job["verdict"], job["exit_code"], job["signal"]) == ("finished", "error", 3, None)
    assert (job["stdout"], job["stdout_encoding"], job["stdout_bytes"]) == ("42\n\x00", "utf-8", 4)
    assert (job["stderr"], job["stderr_truncated"]) == ("größe", None)
    assert job["usage"]["wall_s"] == 0.25
    assert job["usage"]["queue_s"] >= 0
    no_task = dict.fromkeys(("round", "model", "cost_usd", "check_passed", "note"))
    usual = {"wall_s": 0.25, "compile_s": None, "cached": False, "scripted": False, **no_task}
    assert job["attempts"] == [
        {"number": 1, "verdict": None, "failure": "engine_error", "sandbox_start": None, **usual},
        {"number": 2, "verdict": "error", "failure": None, "sandbox_start": "warm", **usual},
    ]
    assert client.get(job["links"]["attempts"]).json() == {"attempts": job["attempts"]}
    first, second = (client.get(f"{job['links']['attempts']}/{n}").json() for n in (1, 2))
    assert (first["failure"], first["code"], first["links"]["job"]) == (
        "engine_error",
        None,
        job["links"]["self"],
    )
    assert (second["exit_code"], second["stderr"]) == (3, "größe")
    assert (job["usage"]["compile_s"], second["usage"]["compile_s"]) == (None, None)


def test_a_compiled_job(client: httpx.Client, store: Store) -> None:
    job = submit(client, language="rust", code="fn main() {}")
    store.finish(UUID(job["id"]), compile_s=0.1234567)
    job = client.get(job["links"]["self"]).json()
    attempt = client.get(f"{job['links']['attempts']}/1").json()
    for usage in (job["usage"], attempt["usage"]):
        assert (usage["compile_s"], usage["wall_s"]) == (0.123457, 0.25)
    assert job["attempts"][0]["compile_s"] == 0.1234567
    assert client.get(job["links"]["attempts"]).json() == {"attempts": job["attempts"]}


@pytest.mark.parametrize(
    ("kept", "written", "text", "encoding", "truncated"),
    [
        (b"\xff\x00\xfe", 3, base64.b64encode(b"\xff\x00\xfe").decode(), "base64", None),
        (b"abc", 1_000, "abc", "utf-8", (3, 0)),
        ("añ".encode()[:-1], 1_000, "a", "utf-8", (2, 0)),  # cut within a character: still a text
        ("añ".encode()[:-1], 2, base64.b64encode("añ".encode()[:-1]).decode(), "base64", None),
        (b"\xffabc", 1_000, base64.b64encode(b"\xffabc").decode(), "base64", (4, 0)),
    ],
)
def test_outputs(
    client: httpx.Client, store: Store, kept: bytes, written: int, text: str, encoding: str, truncated: Any
) -> None:
    job = submit(client)
    store.finish(UUID(job["id"]), stdout=kept, stdout_bytes=written)
    job = client.get(job["links"]["self"]).json()
    assert (job["stdout"], job["stdout_encoding"]) == (text, encoding)
    cut = truncated and {"kept_head": truncated[0], "kept_tail": truncated[1], "total": written}
    assert (job["stdout_bytes"], job["stdout_truncated"]) == (written, cut)


def test_head_and_tail_of_an_output_are_told_apart(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    store.finish(UUID(job["id"]), verdict="output_limit", stdout=b"headtail!", stdout_bytes=50, stdout_head=4)
    job = client.get(job["links"]["self"]).json()
    assert job["stdout"] == "headtail!"
    assert job["stdout_truncated"] == {"kept_head": 4, "kept_tail": 5, "total": 50}


def test_lists(client: httpx.Client, store: Store) -> None:
    ids = [submit(client)["id"] for _ in range(5)]
    first = client.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == [ids[4], ids[3]]
    assert not {"code", "stdout"} & first["jobs"][0].keys()
    later = submit(client)["id"]  # a page stays where it was while jobs arrive
    second = client.get(first["links"]["next"]).json()
    assert [job["id"] for job in second["jobs"]] == [ids[2], ids[1]]
    third = client.get("/v1/jobs", params={"limit": 2, "cursor": second["next_cursor"]}).json()
    assert [job["id"] for job in third["jobs"]] == [ids[0]]
    assert (third["next_cursor"], third["links"]["next"]) == (None, None)
    store.finish(UUID(ids[1]))
    for query, expected in (
        ("state=finished", [ids[1]]),
        ("verdict=ok&language=python", [ids[1]]),
        ("verdict=error", []),
        ("state=queued&limit=1", [later]),
    ):
        page = client.get(f"/v1/jobs?{query}").json()
        assert [job["id"] for job in page["jobs"]] == expected
    filtered = client.get(page["links"]["next"]).json()
    assert [job["id"] for job in filtered["jobs"]] == [ids[4]]


def test_two_keys_of_one_caller_see_the_same_jobs(
    client: httpx.Client, store: Store, connect: Callable[..., httpx.Client]
) -> None:
    job = submit(client)
    assert connect(str(client.base_url), store.key("alice")).get(job["links"]["self"]).status_code == 200


@pytest.mark.parametrize(
    "name", ["x", "1", "0" * 36, "{01900000-0000-7000-8000-000000000000}", "%00", "a%2Fb", "'", "ü"]
)
def test_what_is_no_id_is_no_job(client: httpx.Client, name: str) -> None:
    assert client.get(f"/v1/jobs/{name}").status_code == 404
    assert client.get(f"/v1/jobs/{name}/attempts/1").status_code == 404


@pytest.mark.parametrize("number", ["0", "2", "-1", "x", "1.0", "9" * 30, "²"])
def test_no_such_attempt(client: httpx.Client, store: Store, number: str) -> None:
    job = submit(client)
    store.finish(UUID(job["id"]))
    assert client.get(f"/v1/jobs/{job['id']}/attempts/{number}").status_code == 404


def test_offers(client: httpx.Client) -> None:
    offered = client.get("/v1/languages").json()["languages"]
    profiles = {profile["name"]: profile for profile in client.get("/v1/profiles").json()["profiles"]}
    assert [each["name"] for each in offered] == ["python", "javascript", "bash", "r", "rust"]
    assert (offered[0]["title"], offered[0]["profiles"]) == ("Python", ["standard", "extended"])
    assert profiles["standard"]["limits"]["timeout_s"] == {"least": 1, "default": 60, "most": 120}
    assert profiles["standard"]["fixed"]["pids"] == 128


def test_the_ring_is_celerys_message(store: Store, redis_url: str) -> None:
    """`api.bell` writes what `send_task` would; a change of Celery's format fails here."""
    celery = Celery("test", broker=celery_broker_url(redis_url), set_as_current=False)
    job_id = uuid4()
    celery.send_task(ADVANCE, args=[str(job_id)], queue=SANDBOX_QUEUE, task_id=str(job_id), ignore_result=True)
    client = redis.Redis.from_url(redis_url)
    client.lpush(SANDBOX_QUEUE, Message(celery.amqp, SANDBOX_QUEUE).of(job_id))
    taken = []
    with celery.connection() as connection, connection.SimpleQueue(SANDBOX_QUEUE) as queue:
        for _ in range(2):
            message = queue.get(timeout=10)
            message.ack()
            # Unique for each message; and where results would go, if there were any.
            assert message.properties.pop("delivery_tag")
            message.properties.pop("reply_to")
            taken.append((message.payload, message.headers, message.properties, message.delivery_info))
    assert taken[0] == taken[1]
    assert taken[0][0][0] == [str(job_id)]
