"""Whatever a client sends wrong ends in a problem document that names it, and in nothing stored."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.integration.api.harness import Server, Store, unfinished_post

JSON = {"Content-Type": "application/json"}
TIMEOUT = "from 1 to 120"
MEMORY = "from 16 to 512"
CPUS = "from 0.1 to 1"
OUTPUT = "from 1024 to 8388608"


def code(**more: Any) -> dict[str, Any]:
    return {"code": "print(1)", **more}


def limit(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return code(limits={name: value}, **more)


#: body -> the fields that the answer names, and what it says is allowed for the first.
INVALID: list[tuple[str, dict[str, Any], list[str], Any]] = [
    ("neither code nor task", {}, ["code", "task"], None),
    ("both code and task", {"code": "1", "task": "x"}, ["code", "task"], None),
    ("null code", {"code": None}, ["code", "task"], None),
    ("code is a number", {"code": 1}, ["code"], None),
    ("code is a list", {"code": ["print(1)"]}, ["code"], None),
    ("NUL in code", {"code": "print('\x00')"}, ["code"], None),
    ("code too large", {"code": "#" * (2**20 + 1)}, ["code"], "at most 1048576 bytes"),
    ("code too large in UTF-8", {"code": "é" * (2**19 + 1)}, ["code"], "at most 1048576 bytes"),
    ("unknown field", code(colour="red"), ["colour"], "code"),
    ("state", code(state="finished"), ["state"], "code"),
    ("tenant", code(caller_id="x"), ["caller_id"], "code"),
    ("image", code(image="evil"), ["image"], "code"),
    ("unknown limit", limit("gpus", 1), ["limits.gpus"], "timeout_s"),
    ("unknown language", code(language="cobol"), ["language"], "python"),
    ("language is a list", code(language=["python"]), ["language"], None),
    ("NUL in language", code(language="py\x00thon"), ["language"], None),
    ("unknown profile", code(profile="huge"), ["profile"], "standard"),
    ("profile is a number", code(profile=1), ["profile"], None),
    ("limits is a list", code(limits=[]), ["limits"], None),
    ("limits is null", code(limits=None), ["limits"], None),
    ("zero seconds", limit("timeout_s", 0), ["limits.timeout_s"], TIMEOUT),
    ("negative seconds", limit("timeout_s", -1), ["limits.timeout_s"], TIMEOUT),
    ("too many seconds", limit("timeout_s", 121), ["limits.timeout_s"], TIMEOUT),
    ("10**12 seconds", limit("timeout_s", 10**12), ["limits.timeout_s"], TIMEOUT),
    ("10**30 seconds", limit("timeout_s", 10**30), ["limits.timeout_s"], TIMEOUT),
    (
        "seconds in the other profile",
        limit("timeout_s", 181, profile="extended"),
        ["limits.timeout_s"],
        "from 1 to 180",
    ),
    ("half a second", limit("timeout_s", 0.5), ["limits.timeout_s"], TIMEOUT),
    ("whole seconds as a float", limit("timeout_s", 5.0), ["limits.timeout_s"], TIMEOUT),
    ("seconds as text", limit("timeout_s", "5"), ["limits.timeout_s"], TIMEOUT),
    ("seconds as a boolean", limit("timeout_s", True), ["limits.timeout_s"], TIMEOUT),
    ("seconds as a list", limit("timeout_s", [5]), ["limits.timeout_s"], TIMEOUT),
    ("seconds as an object", limit("timeout_s", {"a": 5}), ["limits.timeout_s"], TIMEOUT),
    ("one byte of memory", limit("memory_mb", 1), ["limits.memory_mb"], MEMORY),
    ("too much memory", limit("memory_mb", 513), ["limits.memory_mb"], MEMORY),
    ("memory as a boolean", limit("memory_mb", False), ["limits.memory_mb"], MEMORY),
    ("no CPU", limit("cpus", 0), ["limits.cpus"], CPUS),
    ("negative CPUs", limit("cpus", -0.5), ["limits.cpus"], CPUS),
    ("too many CPUs", limit("cpus", 1.01), ["limits.cpus"], CPUS),
    ("CPUs as a boolean", limit("cpus", True), ["limits.cpus"], CPUS),
    ("CPUs as text", limit("cpus", "1"), ["limits.cpus"], CPUS),
    ("CPUs 10**30", limit("cpus", 10**30), ["limits.cpus"], CPUS),
    ("too little output", limit("output_bytes", 1023), ["limits.output_bytes"], OUTPUT),
    ("too much output", limit("output_bytes", 8388609), ["limits.output_bytes"], OUTPUT),
    ("several at once", limit("timeout_s", "x", colour=1), ["limits.timeout_s", "colour"], TIMEOUT),
    ("stdin is a number", code(stdin=1), ["stdin"], None),
    ("stdin is null", code(stdin=None), ["stdin"], None),
    ("args is text", code(args="a b"), ["args"], None),
    ("an argument is a number", code(args=["a", 1]), ["args.1"], None),
    ("NUL in an argument", code(args=["a", "b\x00"]), ["args.1"], None),
    ("65 arguments", code(args=["a"] * 65), ["args"], None),
    ("arguments too large", code(args=["é" * 20_000]), ["args"], "at most 32768 bytes in all"),
    ("env is a list", code(env=["A=1"]), ["env"], None),
    ("a variable is a number", code(env={"A": 1}), ["env.A"], None),
    ("a variable with a dash", code(env={"A-B": "1"}), ["env.A-B"], None),
    ("a variable with a digit first", code(env={"1A": "1"}), ["env.1A"], None),
    ("a variable that ends in a newline", code(env={"A\n": "1"}), ["env.A\n"], None),
    ("a variable with =", code(env={"A=B": "1"}), ["env.A=B"], None),
    ("a variable without name", code(env={"": "1"}), ["env."], None),
    ("NUL in a variable's name", code(env={"A\x00": "1"}), ["env.A\x00"], None),
    ("NUL in a variable", code(env={"A": "\x00"}), ["env.A"], None),
    ("65 variables", code(env={f"A{i}": "" for i in range(65)}), ["env"], None),
    ("variables too large", code(env={"A": "x" * 40_000}), ["env"], "at most 32768 bytes in all"),
    ("labels is text", code(labels="x"), ["labels"], None),
    ("a label is a number", code(labels={"a": 1}), ["labels.a"], None),
    ("a label is too long", code(labels={"a": "x" * 257}), ["labels.a"], None),
    ("a label's name is too long", code(labels={"a" * 64: "x"}), ["labels." + "a" * 64], None),
    ("NUL in a label", code(labels={"a": "\x00"}), ["labels.a"], None),
    ("NUL in a label's name", code(labels={"\x00": "a"}), ["labels.\x00"], None),
    ("17 labels", code(labels={str(i): "" for i in range(17)}), ["labels"], None),
    ("unknown reuse", code(reuse="always"), ["reuse"], "never"),
    ("reuse is a boolean", code(reuse=True), ["reuse"], "never"),
]

#: raw body -> status and type of the answer.
MALFORMED: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, "bad-json"),
    ("truncated", b'{"code": "print(1)"', 400, "bad-json"),
    ("trailing comma", b'{"code": "1",}', 400, "bad-json"),
    ("trailing text", b'{"code": "1"} x', 400, "bad-json"),
    ("single quotes", b"{'code': '1'}", 400, "bad-json"),
    ("a form", b"code=print(1)", 400, "bad-json"),
    ("invalid UTF-8", b'{"code": "\xff"}', 400, "bad-json"),
    ("UTF-16", '{"code": "1"}'.encode("utf-16"), 400, "bad-json"),
    ("byte order mark", b'\xef\xbb\xbf{"code": "1"}', 400, "bad-json"),
    ("lone surrogate", b'{"code": "\\ud800"}', 400, "bad-json"),
    ("lone surrogate in a key", b'{"code": "1", "labels": {"\\udfff": ""}}', 400, "bad-json"),
    ("lone surrogate as UTF-8", b'{"code": "\xed\xa0\x80"}', 400, "bad-json"),
    ("NaN", b'{"code": "1", "limits": {"cpus": NaN}}', 400, "bad-json"),
    ("Infinity", b'{"code": "1", "limits": {"cpus": Infinity}}', 400, "bad-json"),
    ("1e309", b'{"code": "1", "limits": {"cpus": 1e309}}', 400, "bad-json"),
    ("5,000 digits", b'{"code": "1", "limits": {"cpus": 1' + b"0" * 5000 + b"}}", 400, "bad-json"),
    ("10^5 arrays, open", b"[" * 100_000, 400, "bad-json"),
    ("10^5 arrays", b"[" * 100_000 + b"]" * 100_000, 400, "bad-json"),
    ("10^5 objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "bad-json"),
    ("an array", b'["print(1)"]', 422, "invalid"),
    ("a string", b'"print(1)"', 422, "invalid"),
    ("null", b"null", 422, "invalid"),
    ("a name twice", b'{"code": "1", "code": "2"}', 422, "invalid"),
    ("a name twice, escaped", b'{"code": "1", "c\\u006fde": "2"}', 422, "invalid"),
    ("a name twice below", b'{"code": "1", "env": {"A": "1", "A": "2"}}', 422, "invalid"),
    ("a name twice in a lost object", b'{"code": "1", "env": {"A": "1"}, "env": {}}', 422, "invalid"),
    ("many objects", b'{"code": "1", "args": [' + b",".join([b"{}"] * 1000) + b"]}", 422, "invalid"),
]


@pytest.mark.parametrize(
    ("body", "fields", "allowed"), [row[1:] for row in INVALID], ids=[r[0] for r in INVALID]
)
def test_invalid_field(
    client: httpx.Client, store: Store, body: dict[str, Any], fields: list[str], allowed: Any
) -> None:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:retort:problem:invalid"
    assert [error["field"] for error in problem["errors"]] == fields
    if allowed is not None:
        said = problem["errors"][0]["allowed"]
        assert said == allowed or allowed in said
    assert (store.count_jobs(), store.rings()) == (0, 0)


@pytest.mark.parametrize(("body", "status", "kind"), [r[1:] for r in MALFORMED], ids=[r[0] for r in MALFORMED])
def test_malformed_body(client: httpx.Client, store: Store, body: bytes, status: int, kind: str) -> None:
    answer = client.post("/v1/jobs", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:retort:problem:{kind}")
    assert (store.count_jobs(), store.rings()) == (0, 0)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonx",
    ],
)
def test_content_type_must_be_json(client: httpx.Client, store: Store, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/v1/jobs", content=b'{"code": "1"}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["errors"] == [
        {"field": "Content-Type", "message": "is not JSON", "allowed": "application/json"}
    ]
    assert store.count_jobs() == 0


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
def test_content_type_may_say_utf8(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/v1/jobs", content=b'{"code": "1"}', headers={"Content-Type": content_type})
    assert answer.status_code == 202


def test_encoded_body_is_refused(client: httpx.Client) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    assert client.post("/v1/jobs", content=b'{"code": "1"}', headers=headers).status_code == 415


class Chunks(httpx.SyncByteStream):
    """A body without a length; knows how much of it was sent."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.pieces):
            self.sent += 1
            yield b" " * 2**16


def test_body_over_the_limit(
    start: Callable[..., Server], connect: Callable[..., httpx.Client], store: Store
) -> None:
    client = connect(start(max_body_bytes=str(2**20), key_cache_s="0").url)
    fits = json.dumps(code()).encode().ljust(2**20)
    assert client.post("/v1/jobs", content=fits, headers=JSON).status_code == 202
    for content in (fits + b" ", iter([fits, b" "]), Chunks(32)):
        answer = client.post("/v1/jobs", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.json()["errors"][0] == {
            "field": "body",
            "message": "is too large",
            "allowed": "at most 1048576 bytes",
        }
    assert store.count_jobs() == 1


def test_body_is_not_read_without_a_key(server: Server) -> None:
    # Whoever read the body first would wait for it.
    status, problem = unfinished_post(server.url, {})
    assert (status, problem["type"]) == (401, "urn:retort:problem:unauthorized")


def test_slow_body(start: Callable[..., Server], key: str, store: Store) -> None:
    served = start(body_timeout_s="0.2")
    status, problem = unfinished_post(served.url, {"Authorization": f"Bearer {key}"})
    assert (status, problem["type"]) == (408, "urn:retort:problem:body-timeout")
    assert store.count_jobs() == 0


def test_a_task_needs_a_gateway(client: httpx.Client, store: Store) -> None:
    answer = client.post("/v1/jobs", json={"task": "print the first ten primes"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:retort:problem:no-gateway")
    assert "no model gateway" in answer.json()["detail"]
    assert "`code`" in answer.json()["detail"]
    assert store.count_jobs() == 0


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ("limit=0", "limit", "from 1 to 200"),
        ("limit=201", "limit", "from 1 to 200"),
        ("limit=-1", "limit", "from 1 to 200"),
        ("limit=x", "limit", "from 1 to 200"),
        ("limit=%D9%A3", "limit", "from 1 to 200"),
        ("limit=1&limit=2", "limit", None),
        ("cursor=", "cursor", None),
        ("cursor=x", "cursor", None),
        ("cursor=%00", "cursor", None),
        ("cursor=%FF%FF", "cursor", None),
        ("cursor=AQIDBAUGBwgJCgsMDQ4P", "cursor", None),
        ("state=done", "state", "queued"),
        ("state='%20OR%201=1--", "state", "queued"),
        ("verdict=good", "verdict", "ok"),
        ("language=cobol", "language", "python"),
        ("language=python%00", "language", "python"),
        ("order=id", "order", "limit"),
        ("Authorization=x", "(query)", "limit"),
    ],
)
def test_list_query(client: httpx.Client, query: str, field: str, allowed: str | None) -> None:
    answer = client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    error = answer.json()["errors"][0]
    assert error["field"] == field
    assert allowed is None or allowed in error["allowed"]


@pytest.mark.parametrize("wait", ["-1", "61", "x", "1.5", "", "1e1", "9" * 400])
def test_bad_wait(client: httpx.Client, wait: str) -> None:
    job = client.post("/v1/jobs", json=code()).json()
    answer = client.get(f"/v1/jobs/{job['id']}", params={"wait": wait})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "wait", "message": "must be a whole number", "allowed": "from 0 to 60"}
    ]
