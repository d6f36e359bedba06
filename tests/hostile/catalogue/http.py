"""Requests that are wrong, too large, too slow, or not the caller's to make."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from tests.harness import eventually
from tests.hostile.entries import Document, Story
from tests.hostile.stage import Stage

JSON = {"Content-Type": "application/json"}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
OPEN = ("/healthz", "/readyz", "/metrics", "/openapi.json")


def _stored(stage: Stage, *states: str) -> int:
    """How many jobs of the hostile caller there are, in these states or in any."""
    return stage.stored("mallory", *states)


def _refused(stage: Stage, content: bytes | Iterator[bytes], statuses: set[int], **headers: str) -> None:
    answer = stage.mallory.post("/v1/jobs", content=content, headers={**JSON, **headers})
    assert answer.status_code in statuses, (answer.status_code, answer.text[:300])
    assert len(answer.content) < 20_000
    assert "Traceback" not in answer.text


def malformed_json(stage: Stage) -> None:
    """What is no JSON, or JSON of a kind that two readers read differently."""
    before = _stored(stage)
    deep = 100_000
    for body in (
        b"", b"{", b'{"code": "print(1)"', b"null", b"[]", b'"x"', b"{'code': 1}", b'{"code": "1",}', b"\xff\xfe",
        b"[" * deep, b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b'{"code": "\\ud800"}',
        b'{"code": "1", "code": "2"}', b'{"code": "1", "limits": {"cpus": NaN}}',
        b'{"code": "1", "limits": {"cpus": Infinity}}', b'{"code": "1", "limits": {"timeout_s": 1' + b"0" * 5000 + b"}}",
        b'{"code": "1", "limits": {"cpus": 1e309}}', b'{"code": "1"}{"code": "2"}', b'{"code": "1"}\0',
        b'{"code": "1", "labels": {' + b",".join(b'"%d": ""' % i for i in range(20_000)) + b"}}",
    ):  # fmt: skip
        _refused(stage, body, {400, 413, 422})
    assert _stored(stage) == before


def huge_bodies(stage: Stage) -> None:
    """Counted before they are parsed, whether they say their length or not."""

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 65536

    before = _stored(stage)
    for content in (b"x" * (50 << 20), endless()):
        try:
            _refused(stage, content, {413})
        except httpx.TransportError:
            continue  # hung up on before all of it was sent
    for field in ("code", "stdin"):
        _refused(stage, json.dumps({"code": "1", field: "#" * (5 << 20)}).encode(), {413, 422})
    _refused(stage, json.dumps({"code": "#" * (2 << 20)}).encode(), {413, 422})
    _refused(stage, json.dumps({"code": "1", "args": ["x" * 1000] * 1000}).encode(), {422})
    _refused(stage, json.dumps({"code": "1", "args": ["x"] * 100_000}).encode(), {422})
    _refused(stage, json.dumps({"code": "1", "env": {f"A{i}": "x" for i in range(10_000)}}).encode(), {422})
    assert _stored(stage) == before


def _open(stage: Stage) -> socket.socket:
    url = urlsplit(stage.server.url)
    return socket.create_connection((str(url.hostname), int(url.port or 80)), timeout=30)


def slow_clients(stage: Stage) -> None:
    """Hundreds of connections that send half a head, half a body or nothing keep nobody from being served."""
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.mallory_key}\r\n".encode()
    beginnings = (
        b"",
        b"GET /v1/jobs HTT",
        head,
        head + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
        head + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    )
    before = _stored(stage)
    with ExitStack() as stack:
        for number in range(300):
            connection = stack.enter_context(_open(stage))
            connection.sendall(beginnings[number % len(beginnings)])
        began = time.monotonic()
        assert stage.alice.get("/v1/jobs", params={"limit": 1}).status_code == 200
        assert stage.alice.get("/healthz").status_code == 200
        assert stage.run("print('served')", stage.alice).job["stdout"] == "served\n"
        assert time.monotonic() - began < 20
    assert _stored(stage) == before


def broken_heads(stage: Stage) -> None:
    """Heads that no parser should take end in a 400 or a cut connection."""
    for head in (
        b"\0\0\0\0\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        with _open(stage) as connection:
            connection.settimeout(5)
            try:
                connection.sendall(head)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
            except OSError:
                continue  # hung up on
            assert not answer or answer.split()[1] in {
                b"400",
                b"401",
                b"404",
                b"411",
                b"413",
                b"414",
                b"431",
            }, answer[:200]
    assert stage.alice.get("/healthz").status_code == 200


def forms_and_other_types(stage: Stage) -> None:
    """Only JSON in UTF-8, not compressed."""
    before = _stored(stage)
    body = b'{"code": "print(1)"}'
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "a/b/c",
                 "application/json; charset=utf-16", "application/jsonp", "text/json", "application/xml"):  # fmt: skip
        answer = stage.mallory.post("/v1/jobs", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 415, (kind, answer.status_code)
    for encoding in ("gzip", "br", "deflate", "gzip, gzip"):
        _refused(stage, body, {415}, **{"Content-Encoding": encoding})
    assert _stored(stage) == before


def nul_in_every_text(stage: Stage) -> None:
    """A NUL is refused where it cannot be kept, and kept where it can."""
    nul = "a\0b"
    fields: list[Document] = [
        {"code": nul}, {"language": nul}, {"profile": nul}, {"args": [nul]}, {"env": {"A": nul}}, {"env": {nul: ""}},
        {"labels": {"a": nul}}, {"labels": {nul: "a"}}, {"reuse": nul}, {nul: nul}, {"limits": {nul: 1}},
    ]  # fmt: skip
    before = _stored(stage)
    for field in fields:
        _refused(stage, json.dumps({"code": "print(1)", **field}).encode(), {422})
    for query in ("cursor=%00", "state=%00", "limit=%00", "language=a%00", "verdict=%00", "%00=1"):
        assert stage.mallory.get(f"/v1/jobs?{query}").status_code == 422
    for path in ("/v1/jobs/%00", "/v1/%00", f"/v1/jobs/{uuid4()}/attempts/%00"):
        assert stage.mallory.get(path).status_code == 404
    assert _stored(stage) == before
    kept = stage.run("import sys; print(ascii(sys.stdin.read()))", stdin=nul)
    assert kept.job["stdout"] == "'a\\x00b'\n"


def absurd_limits(stage: Stage) -> None:
    """Every limit outside its range is refused, and the range is named."""
    absurd = (
        "-1",
        "0",
        "1e309",
        "1e308",
        "10000000000000",
        "-0.0",
        '"5"',
        "true",
        "[]",
        "{}",
        "0.0000001",
        '""',
        "1" * 400,
    )
    before = _stored(stage)
    for name in ("timeout_s", "memory_mb", "cpus", "output_bytes"):
        for value in absurd:
            body = f'{{"code": "print(1)", "limits": {{"{name}": {value}}}}}'.encode()
            _refused(stage, body, {400, 422})
    answer = stage.mallory.post("/v1/jobs", json={"code": "1", "limits": {"timeout_s": 10**9}})
    assert answer.json()["errors"][0]["allowed"] == "from 1 to 120"
    assert _stored(stage) == before


def unknown_fields(stage: Stage) -> None:
    """Nothing passes in silence, least of all what would set the job's own columns."""
    fields = ("tenant_id", "caller_id", "state", "status", "verdict", "image", "runtime_path", "id", "lease_token",
              "created_at", "privileged", "user", "mounts", "cap_add", "Code", "code ", "__proto__", "constructor")  # fmt: skip
    before = _stored(stage)
    for field in fields:
        answer = stage.mallory.post("/v1/jobs", json={"code": "print(1)", field: "x"})
        assert answer.status_code == 422, field
        assert answer.json()["errors"][0]["field"] == field
    for wrong in (
        {"code": ["x"]},
        {"code": {"$ne": None}},
        {"code": "1", "args": {}},
        {"code": "1", "limits": "x"},
    ):
        assert stage.mallory.post("/v1/jobs", json=wrong).status_code == 422
    assert _stored(stage) == before


INJECTIONS = (
    "'; DROP TABLE jobs; --", "' OR '1'='1", "1; SELECT pg_sleep(10)", "${7*7}", "{{7*7}}", "%s%s%n", "../../etc/passwd",
    "$(id)", "`id`", "\\", "\"", "\u202e", "<script>alert(1)</script>", "x\r\nSet-Cookie: a=b", "*)(uid=*",
)  # fmt: skip


def injections(stage: Stage) -> None:
    """Strings that mean something to a database, a shell, a template or a browser are strings."""
    for text in INJECTIONS:
        result = stage.run(
            "import sys, os; print(sys.argv[1] == os.environ['A'] == sys.stdin.buffer.read().decode())",
            args=[text],
            env={"A": text},
            stdin=text,
            labels={"a": text, text[:63]: "b"},
            reuse="caller",
        )
        assert (result.job["verdict"], result.job["stdout"]) == ("ok", "True\n"), (text, result.job)
        assert result.job["labels"]["a"] == text
        for name in ("state", "verdict", "language", "cursor", "limit", "order", "sort"):
            assert stage.mallory.get("/v1/jobs", params={name: text}).status_code == 422
        for field in ("language", "profile", "reuse"):
            assert stage.mallory.post("/v1/jobs", json={"code": "1", field: text}).status_code == 422
    assert _stored(stage) > 0


def keys_in_wrong_places(stage: Stage) -> None:
    """A key is read from its header alone, and shown nowhere. (That none is logged holds after every entry.)"""
    key = stage.mallory_key
    nobody = stage.client(None)
    for name in ("key", "api_key", "access_token", "token", "authorization"):
        for client in (nobody, stage.mallory):
            answer = client.get("/v1/jobs", params={name: key})
            assert answer.status_code == (401 if client is nobody else 422)
            assert key not in answer.text
    for headers in ({"X-API-Key": key}, {"Cookie": f"key={key}"}, {"Referer": f"http://x/?key={key}"}):
        assert nobody.get("/v1/jobs", headers=headers).status_code == 401
    for path in (f"/v1/jobs/{key}", f"/{key}", f"/v1/{key}"):
        assert key not in stage.mallory.get(path, headers={"X-Request-ID": key, "Referer": key}).text


def no_key_no_answer(stage: Stage) -> None:
    """Every path of the contract, by every method, without a key and with ones that are wrong.

    Wrong ones are soon no longer looked up; who sends them has an address of its own here.
    """
    document = httpx.get(f"{stage.server.url}/openapi.json").json()
    paths = [path for path in document["paths"] if path not in OPEN]
    assert paths
    made = str(uuid4())
    wrong = {"Authorization": f"Bearer {stage.mallory_key[:-1]}x"}
    nobody = stage.client(None, "127.0.0.8")
    before = _stored(stage)
    for path in [*paths, "/v1", "/v1/", "/v1/nothing", "/v1/docs", "/v1/../v1/jobs"]:
        for name in ("{job_id}", "{id}", "{name}", "{file_id}", "{batch_id}"):
            path = path.replace(name, made)
        path = path.replace("{number}", "1").replace("{", "").replace("}", "")
        for method in METHODS:
            for headers, statuses in (({}, {401}), (wrong, {401, 429})):
                answer = nobody.request(method, path, headers=headers)
                assert answer.status_code in statuses, (method, path, answer.status_code)
    assert nobody.get("/docs").status_code in {401, 404}
    assert _stored(stage) == before


def client_vanishes(stage: Stage) -> None:
    """Clients that ask for a job's end and do not stay for it change nothing: the job ends."""
    body = json.dumps(
        {"code": "import time; time.sleep(0.3); print('ended')", "labels": {"by": "vanished"}}
    ).encode()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.mallory_key}\r\nPrefer: wait=30\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    before = _stored(stage, "finished")
    connections = [_open(stage) for _ in range(5)]
    for connection in connections:
        connection.sendall(head + body)
    eventually(lambda: _stored(stage, "running") > 0, "one of the jobs runs")
    for connection in connections:
        connection.close()
    eventually(lambda: _stored(stage, "finished") == before + 5, "all of the jobs end")


def never_reads_its_answer(stage: Stage) -> None:
    """A client that asks for megabytes and takes none of them holds up nobody."""
    made = stage.run("print('x' * (1 << 20))", limits={"output_bytes": 2 << 20})
    wanted = (
        f"GET {made.job['links']['self']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.mallory_key}\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(_open(stage))
            connection.sendall(wanted * 5)
        assert stage.run("print('served')", stage.alice).job["stdout"] == "served\n"


def markup_in_output(stage: Stage) -> None:
    """Output that is a page stays data: JSON, never sniffed, never framed, nothing of it active."""
    page = "<html><script>alert(document.cookie)</script><img src=x onerror=alert(1)>"
    result = stage.run(f"import sys; print({page!r}); print({page!r}, file=sys.stderr)", labels={"<b>": page})
    for path in (result.job["links"]["self"], result.job["links"]["attempts"] + "/1", "/v1/jobs"):
        answer = stage.mallory.get(path, headers={"Accept": "text/html"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"


ENTRIES = [
    Story("malformed_json", malformed_json, fast=True),
    Story("huge_bodies", huge_bodies),
    Story("slow_clients", slow_clients),
    Story("broken_heads", broken_heads),
    Story("forms_and_other_types", forms_and_other_types),
    Story("nul_in_every_text", nul_in_every_text),
    Story("absurd_limits", absurd_limits),
    Story("unknown_fields", unknown_fields),
    Story("injections", injections, keeps=2),
    Story("keys_in_wrong_places", keys_in_wrong_places),
    Story("no_key_no_answer", no_key_no_answer),
    Story("client_vanishes", client_vanishes),
    Story("never_reads_its_answer", never_reads_its_answer),
    Story("markup_in_output", markup_in_output),
]
