"""Uploaded files: streamed, counted, per caller; and what becomes of them."""

import hashlib
import os
import select
import socket
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest

from tests.integration.files.conftest import House

MB = 1 << 20


def upload(house: House, content: bytes, name: str = "data.bin", client: httpx.Client | None = None) -> str:
    """Upload: the file's id."""
    answer = (client or house.client).post("/v1/files", params={"name": name}, content=content)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


def test_an_upload_is_stored_and_used_by_jobs(house: House) -> None:
    content = os.urandom(3 * MB)
    answer = house.client.post("/v1/files", params={"name": "d/in.bin"}, content=content)
    file = answer.json()
    digest = hashlib.sha256(content).hexdigest()
    assert answer.headers["location"] == f"/v1/files/{file['id']}" == file["links"]["self"]
    assert (file["name"], file["size"], file["sha256"]) == ("d/in.bin", 3 * MB, digest)
    assert house.client.get(file["links"]["self"]).json() == file
    assert file["id"] in house.stored("files")
    code = "import hashlib; print(hashlib.sha256(open('e/x.bin', 'rb').read()).hexdigest())"
    for _ in range(2):
        job = house.run(code, files=[{"name": "e/x.bin", "file": file["id"]}, {"name": "b", "base64": "AP8="}])
        assert job["stdout"] == digest + "\n"
        assert job["files"][0] == {"name": "e/x.bin", "size": 3 * MB, "sha256": digest, "file": file["id"]}
        assert job["artifacts"] == []
    assert house.client.delete(file["links"]["self"]).status_code == 204
    assert file["id"] not in house.stored("files")
    assert house.client.get(file["links"]["self"]).status_code == 404
    assert house.client.delete(file["links"]["self"]).status_code == 404
    body = {"code": "1", "files": [{"name": "a", "file": file["id"]}]}
    assert house.client.post("/v1/jobs", json=body).status_code == 422


def test_other_callers_see_nothing_of_it(house: House) -> None:
    file = upload(house, b"secret")
    with house.connect() as other:
        assert other.get(f"/v1/files/{file}").status_code == 404
        assert other.delete(f"/v1/files/{file}").status_code == 404
        answer = other.post("/v1/jobs", json={"code": "1", "files": [{"name": "a", "file": file}]})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "files.0.file")


def test_a_file_that_a_job_waits_for_is_kept(house: House) -> None:
    file = upload(house, b"x")
    body = {"code": "import time; time.sleep(2)", "files": [{"name": "a", "file": file}]}
    job = house.client.post("/v1/jobs", json=body).json()
    refused = house.client.delete(f"/v1/files/{file}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:retort:problem:in-use")
    done = house.client.get(f"/v1/jobs/{job['id']}", params={"wait": 50}).json()
    assert done["verdict"] == "ok"
    assert house.client.delete(f"/v1/files/{file}").status_code == 204


def test_a_job_whose_file_is_gone_is_broken_with_the_reason(house: House) -> None:
    file = upload(house, b"x")
    (house.storage / "files" / file).unlink()
    body = {"code": "1", "files": [{"name": "a", "file": file}]}
    job = house.client.post("/v1/jobs", json=body, headers={"Prefer": "wait=50"}).json()
    assert job["state"] == "broken"
    assert job["reason"] == "the input 'a' was deleted before the job ran"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?name=../x", {}, 422),
        ("?name=%00", {}, 422),
        ("?name=" + "x" * 300, {}, 422),
        ("?name=%ff", {}, 201),  # decoded with a replacement character, which is a name like any other
        ("?nam=x", {}, 422),
        ("", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ("", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("", {"Content-Encoding": "gzip"}, 415),
        ("", {"Content-Type": "text/csv"}, 201),
    ],
)
def test_what_an_upload_may_be(house: House, query: str, headers: dict[str, str], status: int) -> None:
    before = house.stored("files")
    answer = house.client.post(f"/v1/files{query}", content=b"x", headers=headers)
    assert answer.status_code == status, answer.text
    assert len(house.stored("files") - before) == (status == 201)


def chunks(count: int) -> Iterator[bytes]:
    """So many MB, made while they are sent."""
    for _ in range(count):
        yield b"x" * MB


def test_a_body_that_is_too_large_ends_early_and_leaves_nothing(house: House) -> None:
    before = house.stored("files")
    host, _, port = house.server.url.removeprefix("http://").partition(":")
    key = house.client.headers["authorization"]
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
    # 2 GB announced: refused before any of it was sent.
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {2 << 30}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    # The same without its length told: refused while it comes.
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        for chunk in chunks(2048):
            if select.select([connection], [], [], 0)[0]:
                break
            connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            sent += len(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
        assert sent < 64 * MB
    assert house.stored("files") == before


def test_an_upload_that_stops_short_leaves_nothing(house: House) -> None:
    before = house.stored("files")
    host, _, port = house.server.url.removeprefix("http://").partition(":")
    key = house.client.headers["authorization"]
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + b"x" * 500)
    upload(house, b"after")  # the same process answers on
    assert len(house.stored("files") - before) == 1


def test_all_files_of_a_caller_have_a_limit(house: House) -> None:
    with house.connect() as client:
        first = upload(house, b"x" * 4 * MB, client=client)
        upload(house, b"x" * 4 * MB, client=client)
        before = house.stored("files")
        refused = client.post("/v1/files", content=b"x" * 3 * MB)
        assert (refused.status_code, refused.json()["type"]) == (413, "urn:retort:problem:storage-full")
        assert house.stored("files") == before
        client.delete(f"/v1/files/{UUID(first)}")
        upload(house, b"x" * 3 * MB, client=client)
