"""Quotas, cancels, keys of requests, event streams and addresses: what a caller could turn on the others."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from domain.quotas import USUAL_SCOPES, Scope
from tests.harness import eventually
from tests.hostile.catalogue.tenancy import without_ids
from tests.hostile.entries import Document, Story
from tests.hostile.stage import JOBS, Stage


def _cancel_all(stage: Stage, client: httpx.Client, caller: str) -> None:
    for state in ("queued", "running"):
        while stage.stored(caller, state):
            page = client.get("/v1/jobs", params={"state": state, "limit": 200}).json()["jobs"]
            for job in page:
                assert client.post(f"{job['links']['self']}/cancel").status_code in {200, 409}


def one_caller_saturates(stage: Stage) -> None:
    """Two hundred jobs of one caller: a quota refuses most, and another caller's job does not wait for the rest."""
    greedy = stage.client(stage.new_key("greedy"))
    admin = stage.client(stage.new_key("admin", (*USUAL_SCOPES, Scope.ADMIN)))
    caller = next(each for each in admin.get("/v1/callers").json()["callers"] if each["name"] == "greedy")
    quotas = {"quotas": {"queued": 20 * JOBS}}
    assert admin.put(f"/v1/callers/{caller['id']}/quotas", json=quotas).status_code == 200
    job = {"code": "import time; time.sleep(1)"}

    def quota_holds() -> bool:  # within two seconds, as the contract says
        return greedy.post("/v1/jobs", json=job).status_code == 429

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: greedy.post("/v1/jobs", json=job), range(150)))
    eventually(quota_holds, "the quota refuses")
    answer = greedy.post("/v1/jobs", json=job)
    if answer.status_code == 429:  # one may have ended meanwhile
        assert answer.json()["type"] == "urn:retort:problem:quota-exceeded"
        assert int(answer.headers["retry-after"]) > 0
    assert stage.run("print('served')", stage.alice).job["stdout"] == "served\n"
    assert stage.stored("greedy", "queued") > 2 * JOBS, "another caller's job waited for the greedy one's"
    # Who may run only a few at a time runs only so many.
    assert admin.put(f"/v1/callers/{caller['id']}/quotas", json={"quotas": {"running": 1}}).status_code == 200
    _cancel_all(stage, greedy, "greedy")


def cancels_of_others(stage: Stage) -> None:
    """Another caller's job is not there to be cancelled, run again, deleted, followed."""
    running = stage.alice.post("/v1/jobs", json={"code": "import time; time.sleep(2); print('mine')"}).json()
    for method, act in (
        ("POST", "/cancel"),
        ("POST", "/rerun"),
        ("DELETE", ""),
        ("GET", "/events"),
        ("GET", "/artifacts"),
    ):
        theirs, never = (
            without_ids(stage.mallory.request(method, f"/v1/jobs/{job_id}{act}"))
            for job_id in (running["id"], uuid4())
        )
        assert theirs == never, (method, act)
        assert theirs[0] == 404
    result = stage.end_of(stage.alice, running)
    assert (result.job["verdict"], result.job["stdout"]) == ("ok", "mine\n")
    assert len(result.job["attempts"]) == 1


def cancelled_bombs(stage: Stage) -> None:
    """A bomb that is cancelled while it goes off is gone, and no result of it is ever recorded."""
    bombs = (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "while True: print('x' * 999)",
        "import signal, time\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ntime.sleep(60)",
    )
    for code in bombs:
        job = stage.mallory.post("/v1/jobs", json={"code": code, "limits": {"output_bytes": 8 << 20}}).json()
        path = job["links"]["self"]
        eventually(lambda path=path: stage.mallory.get(path).json()["state"] != "queued", "it runs")  # type: ignore[misc]
        answer = stage.mallory.post(f"{path}/cancel")
        ended = stage.mallory.get(path).json()
        if answer.status_code == 200:
            assert (ended["state"], ended["verdict"]) == ("cancelled", None), ended
        else:  # it had filled its output first
            assert (answer.status_code, ended["verdict"]) == (409, "output_limit"), ended
        assert stage.mallory.get(path).json() == ended


def same_key_same_body(stage: Stage) -> None:
    """Fifty requests at once with one key make one job; all but one are told that it was there."""
    before = stage.stored("mallory")
    headers = {"Idempotency-Key": uuid4().hex}
    body = {"code": "print('once')"}
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda _: stage.mallory.post("/v1/jobs", json=body, headers=headers), range(50))
        )
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    replayed = [answer.headers.get("idempotency-replayed") for answer in answers]
    assert sorted(replayed, key=str) == [None] + ["true"] * 49, replayed
    assert stage.stored("mallory") == before + 1
    assert stage.end_of(stage.mallory, answers[0].json()).job["stdout"] == "once\n"


def same_key_other_body(stage: Stage) -> None:
    """A key stands for one request: another is refused, and so is what is no key."""
    headers = {"Idempotency-Key": uuid4().hex}
    first = stage.mallory.post("/v1/jobs", json={"code": "print(1)"}, headers=headers)
    before = stage.stored("mallory")
    for body in (
        {"code": "print(2)"},
        {"code": "print(1)", "args": ["x"]},
        {"code": "print(1)", "reuse": "caller"},
    ):
        answer = stage.mallory.post("/v1/jobs", json=body, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:retort:problem:idempotency-key-reused")
    again = stage.mallory.post(f"{first.json()['links']['self']}/rerun", json={}, headers=headers)
    assert again.status_code == 422
    for key in ("", "x" * 256, "a b", "\u00e4", "a,b c"):
        answer = stage.mallory.post(
            "/v1/jobs", json={"code": "1"}, headers={b"Idempotency-Key": key.encode("latin-1")}
        )
        assert answer.status_code == 422, key
    assert stage.stored("mallory") == before
    stage.end_of(stage.mallory, first.json())


def same_key_other_caller(stage: Stage) -> None:
    """Two callers with the same key know nothing of each other."""
    headers = {"Idempotency-Key": uuid4().hex}
    jobs = [
        client.post("/v1/jobs", json={"code": f"print({n})"}, headers=headers)
        for n, client in enumerate((stage.mallory, stage.alice))
    ]
    assert [job.status_code for job in jobs] == [202, 202]
    assert "idempotency-replayed" not in jobs[1].headers
    assert jobs[0].json()["id"] != jobs[1].json()["id"]
    for n, client in enumerate((stage.mallory, stage.alice)):
        assert stage.end_of(client, jobs[n].json()).job["stdout"] == f"{n}\n"


def slow_event_streams(stage: Stage) -> None:
    """Readers of a job's events who take nothing, or leave, hold up neither the job nor another reader."""
    code = "import sys, time\nfor n in range(2000):\n    print('x' * 1000, flush=True)\n    n % 100 or time.sleep(0.05)"
    job = stage.mallory.post("/v1/jobs", json={"code": code, "limits": {"output_bytes": 8 << 20}}).json()
    url = urlsplit(stage.server.url)
    wanted = (
        f"GET {job['links']['events']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.mallory_key}\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        for number in range(60):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((str(url.hostname), int(url.port or 80)))
            connection.sendall(wanted)
            if number % 3 == 0:
                connection.close()
        result = stage.end_of(stage.mallory, job)
        assert (result.job["verdict"], result.job["stdout_bytes"]) == ("ok", 2_002_000), result.job["verdict"]
        told = stage.mallory.get(job["links"]["events"]).text
        assert "event: done" in told
        assert told.count("x" * 1000) <= 2000
        assert stage.run("print('served')", stage.alice).job["stdout"] == "served\n"


def spoofed_addresses(stage: Stage) -> None:
    """Guesses of keys are counted by the address they come from, whatever address they say."""
    guesser = stage.client("rt_" + "x" * 43, "127.0.0.9")
    other = stage.client("rt_" + "y" * 43, "127.0.0.10")

    def guess(number: int) -> int:
        said: Document = {
            "X-Forwarded-For": f"203.0.113.{number % 250}",
            "X-Real-IP": f"203.0.113.{number % 250}",
            "Forwarded": f"for=203.0.113.{number % 250}",
        }
        return guesser.get("/v1/jobs", headers=said).status_code

    numbers = iter(range(10_000))
    eventually(lambda: guess(next(numbers)) == 429, "guesses are limited")
    assert guess(next(numbers)) in {401, 429}
    # Nobody else is hurt, least of all one that the guesser pretended to be.
    assert other.get("/v1/jobs", headers={"X-Forwarded-For": "127.0.0.9"}).status_code == 401
    assert stage.alice.get("/v1/jobs", headers={"X-Forwarded-For": "127.0.0.9"}).status_code == 200


ENTRIES = [
    Story("one_caller_saturates", one_caller_saturates),
    Story("cancels_of_others", cancels_of_others),
    Story("cancelled_bombs", cancelled_bombs, fast=True),
    Story("same_key_same_body", same_key_same_body, fast=True),
    Story("same_key_other_body", same_key_other_body),
    Story("same_key_other_caller", same_key_other_caller),
    Story("slow_event_streams", slow_event_streams, fast=True),
    Story("spoofed_addresses", spoofed_addresses),
]
