"""Files that a caller brings: archives, too many, too large, badly named, somebody else's."""

import base64
import hashlib
import io
import json
import re
import select
import socket
import zipfile
from urllib.parse import urlsplit
from uuid import uuid4

from tests.hostile.entries import Document, Story
from tests.hostile.stage import Stage


def _bomb() -> bytes:
    """A zip of zips, some GB in all, with names that lead outside."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("zeros", bytes(16 << 20))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(50):
            archive.writestr(f"{number}.zip", inner.getvalue())
        archive.writestr("../../../../tmp/escaped", "x")
        archive.writestr("/work/main.py", "print('replaced')")
    return outer.getvalue()


LOOK = """
import hashlib, os, sys
print(sorted(os.listdir('/work')), os.path.exists('/tmp/escaped'))
for name in sys.argv[1:]: print(hashlib.sha256(open(name, 'rb').read()).hexdigest())
"""


def archives_as_inputs(stage: Stage) -> None:
    """An archive is a file like any other: nobody unpacks it, but for the program, within its limits."""
    bomb = _bomb()
    assert len(bomb) < 2 << 20
    uploaded = stage.mallory.post("/v1/files", params={"name": "up.zip"}, content=bomb).json()
    assert uploaded["size"] == len(bomb)
    files = [
        {"name": "in.zip", "base64": base64.b64encode(bomb).decode()},
        {"name": "up.zip", "file": uploaded["id"]},
    ]
    result = stage.run(LOOK, files=files, args=["in.zip", "up.zip"])
    digest = hashlib.sha256(bomb).hexdigest()
    assert result.job["stdout"] == f"['in.zip', 'main.py', 'up.zip'] False\n{digest}\n{digest}\n", result.job
    assert result.job["artifacts"] == []
    unpack = (
        "import io, zipfile\n"
        "outer = zipfile.ZipFile('in.zip')\n"
        "for name in outer.namelist():\n"
        "    if name.endswith('.zip'): zipfile.ZipFile(io.BytesIO(outer.read(name))).extractall(f'/work/d{name}')\n"
    )
    full = stage.run(unpack, files=files[:1])
    assert full.job["verdict"] in {"disk_limit", "error", "out_of_memory"}, full.job
    assert stage.mallory.delete(uploaded["links"]["self"]).status_code == 204


def hundred_thousand_input_files(stage: Stage) -> None:
    """Refused with the limit named; nothing is stored."""
    before = stage.stored("mallory")
    for count in (101, 257, 10_000, 100_000):
        files = [{"name": f"{n}", "content": ""} for n in range(count)]
        answer = stage.mallory.post("/v1/jobs", json={"code": "1", "files": files})
        assert answer.status_code in {413, 422}, (count, answer.status_code)
        error = answer.json()["errors"][0]
        assert error["field"] in {"files", "body"}
        assert re.search(r"at most \d+|more than \d+|from \d+ to \d+", str(error)), error
    large: Document = {"code": "1", "files": [{"name": f"{n}", "content": "x" * (1 << 20)} for n in range(5)]}
    assert stage.mallory.post("/v1/jobs", json=large).status_code == 413
    assert stage.stored("mallory") == before


def giant_uploads(stage: Stage) -> None:
    """What is too large ends in a 413, announced or sent for ever; half an upload leaves nothing."""
    url = urlsplit(stage.server.url)
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.mallory_key}\r\n"

    def connect() -> socket.socket:
        return socket.create_connection((str(url.hostname), int(url.port or 80)), timeout=30)

    with connect() as connection:
        connection.sendall(f"{head}Content-Length: {2 << 30}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with connect() as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(piece)
            sent += 65536
            assert sent < 1 << 30, "a gigabyte was taken without a word"
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    halves = [connect() for _ in range(50)]
    for connection in halves:
        connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + b"x" * 50_000)
    assert stage.run("print('served')", stage.alice).job["stdout"] == "served\n"
    for connection in halves:
        connection.close()


def names_of_inputs(stage: Stage) -> None:
    """A name that leads out of the work folder, or could not be one, is refused where it stands."""
    before = stage.stored("mallory")
    for name in ("../x", "/etc/passwd", "a/../../x", "a\0b", "x" * 300, "", ".", "a//b", "main.py", ".retort/x", "a\nb",
                 "d/" * 20 + "x", "\u202ex" * 400):  # fmt: skip
        body = {"code": "1", "files": [{"name": "fine", "content": ""}, {"name": name, "content": "x"}]}
        answer = stage.mallory.post("/v1/jobs", json=body)
        assert answer.status_code == 422, name
        assert answer.json()["errors"][0]["field"] == "files.1.name", name
    lone = json.dumps({"code": "1", "files": [{"name": "\ud800", "content": ""}]}).encode()
    answer = stage.mallory.post("/v1/jobs", content=lone, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert stage.stored("mallory") == before


def files_of_others(stage: Stage) -> None:
    """Another caller's upload is not there: not to read, to use or to delete."""
    file = stage.alice.post("/v1/files", content=b"private").json()
    never = str(uuid4())
    answers = [
        [
            stage.mallory.get(f"/v1/files/{file_id}"),
            stage.mallory.delete(f"/v1/files/{file_id}"),
            stage.mallory.post("/v1/jobs", json={"code": "1", "files": [{"name": "a", "file": file_id}]}),
        ]
        for file_id in (file["id"], never)
    ]
    theirs, nobodys = (
        [(a.status_code, {**a.json(), "request_id": 0, "instance": 0}) for a in row] for row in answers
    )
    assert [status for status, _ in theirs] == [404, 404, 422]
    assert str(theirs).replace(file["id"], "") == str(nobodys).replace(never, "")
    used = stage.run("print(open('a').read())", stage.alice, files=[{"name": "a", "file": file["id"]}])
    assert used.job["stdout"] == "private\n"
    assert stage.alice.delete(file["links"]["self"]).status_code == 204


ENTRIES = [
    Story("archives_as_inputs", archives_as_inputs),
    Story("hundred_thousand_input_files", hundred_thousand_input_files, fast=True),
    Story("giant_uploads", giant_uploads),
    Story("names_of_inputs", names_of_inputs),
    Story("files_of_others", files_of_others),
]
