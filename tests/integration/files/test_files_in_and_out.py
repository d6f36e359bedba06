"""Files into a job and out of it, through the whole service."""

import base64
import hashlib

from tests.integration.files.conftest import House


def test_a_text_goes_in_and_a_file_comes_out(house: House) -> None:
    job = house.run(
        "open('out.txt', 'w').write(open('in/a.txt').read().upper())",
        files=[{"name": "in/a.txt", "content": "grün\n"}],
    )
    assert job["verdict"] == "ok", job
    assert job["files"] == [
        {"name": "in/a.txt", "size": 6, "sha256": hashlib.sha256("grün\n".encode()).hexdigest(), "file": None}
    ]
    (artifact,) = job["artifacts"]
    content = "GRÜN\n".encode()
    assert artifact == {
        "name": "out.txt",
        "size": len(content),
        "media_type": "text/plain",
        "sha256": hashlib.sha256(content).hexdigest(),
        "base64": None,
        "links": {"self": f"/v1/jobs/{job['id']}/artifacts/out.txt"},
    }
    assert house.fetch(job, "out.txt") == content


def test_artifacts_come_inline_where_asked_for_and_where_they_fit(house: House) -> None:
    code = "open('a', 'wb').write(bytes(range(256))); open('b', 'wb').write(b'x' * 1000)"
    job = house.run(code, query="?inline=500")
    found = {a["name"]: a["base64"] for a in job["artifacts"]}
    assert found == {"a": base64.b64encode(bytes(range(256))).decode(), "b": None}
    again = house.client.get(job["links"]["self"], params={"inline": 2000}).json()
    assert [base64.b64decode(a["base64"]) for a in again["artifacts"]] == [bytes(range(256)), b"x" * 1000]
