"""Files into a job and out of it, through the whole service."""

import base64
import hashlib
import json
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.integration.files.conftest import House
from tests.unit.test_files import WRONG

#: Three figures, a CSV and a binary file: shown, left open, and saved by the program itself.
LEAVES = """
import matplotlib.pyplot as plt
import pandas as pd
table = pd.read_csv('data/in.csv')
plt.plot(table.x, table.y, label='measured'); plt.title('One'); plt.xlabel('x'); plt.legend(); plt.show()
plt.figure(); plt.bar(['a', 'b'], [1, 2])
figure, axes = plt.subplots(); axes.scatter([1, 2], [3, 4]); figure.savefig('own.png')
table.describe().to_csv('out/summary.csv') if __import__('os').makedirs('out') is None else None
open('blob.bin', 'wb').write(bytes(range(256)) * 1000)
import hashlib, os
for name in ('figure-1.png', 'own.png', 'out/summary.csv', 'blob.bin'):
    print(name, hashlib.sha256(open(name, 'rb').read()).hexdigest())
table
"""


def test_figures_a_csv_and_a_binary_file_come_back_byte_for_byte(house: House) -> None:
    job = house.run(LEAVES, files=[{"name": "data/in.csv", "content": "x,y\n1,2\n3,4.5\n"}])
    assert (job["verdict"], job["stderr"], job["left_out"]) == ("ok", "", [])
    kinds = {a["name"]: a["media_type"] for a in job["artifacts"]}
    assert kinds == {
        "blob.bin": "application/octet-stream",
        "figure-1.png": "image/png",
        "figure-2.png": "image/png",
        "out/summary.csv": "text/csv",
        "own.png": "image/png",
    }
    inside = dict(line.split() for line in job["stdout"].splitlines())
    for artifact in job["artifacts"]:
        content = house.fetch(job, artifact["name"])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (artifact["size"], artifact["sha256"])
        assert inside.get(artifact["name"], artifact["sha256"]) == artifact["sha256"]
        if artifact["media_type"] == "image/png":
            assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert house.fetch(job, "blob.bin") == bytes(range(256)) * 1000
    first, second, third, table = job["results"]
    assert first["artifact"] == "figure-1.png"
    assert first["axes"] == [
        {
            "title": "One",
            "x_label": "x",
            "y_label": None,
            "x_categories": None,
            "y_categories": None,
            "series": [
                {"kind": "line", "label": "measured", "x": [1, 3], "y": [2.0, 4.5], "points": 2},
            ],
            "truncated": False,
        }
    ]
    assert (second["artifact"], second["axes"][0]["x_categories"]) == ("figure-2.png", ["a", "b"])
    assert (third["artifact"], third["axes"][0]["series"][0]["kind"]) == ("own.png", "scatter")
    assert table == {
        "type": "table",
        "columns": [{"name": "x", "dtype": "int64"}, {"name": "y", "dtype": "float64"}],
        "index": [0, 1],
        "rows": [[1, 2.0], [3, 4.5]],
        "total_rows": 2,
        "total_columns": 2,
        "truncated": False,
    }


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
    too_much = house.client.get(job["links"]["self"], params={"inline": 10**9})
    assert (too_much.status_code, too_much.json()["errors"][0]["field"]) == (422, "inline")


def test_what_was_left_out_is_told_and_nothing_of_the_host_comes_back(house: House) -> None:
    code = "import os; os.symlink('/etc/passwd', 'p'); os.mkfifo('f'); os.symlink('../../..', 'up')"
    job = house.run(code)
    assert job["artifacts"] == []
    left = {each["name"]: each["reason"] for each in job["left_out"]}
    assert left == {"p": "symlink", "f": "special", "up": "symlink"}
    listed = house.client.get(f"/v1/jobs/{job['id']}/artifacts").json()
    assert (listed["attempt"], listed["artifacts"], len(listed["left_out"])) == (1, [], 3)
    for name in ("p", "f", "up", "../../etc/passwd", "/etc/passwd", "%2e%2e/x", "a%00b", "main.py"):
        answer = house.client.get(f"/v1/jobs/{job['id']}/artifacts/{quote(name)}")
        assert answer.status_code == 404


NAMES = [
    "new\nline.html",
    "\u202egpj.exe",
    "-rf",
    "CON",
    '"; a=b.svg',
    "d/<script>.html",
    "grün%41.txt",
    "x" * 255,
]


def test_names_of_every_kind_can_be_fetched(house: House) -> None:
    code = f"import os; os.mkdir('d')\nfor name in {NAMES!r}: open(name, 'w').write(name)"
    job = house.run(code)
    assert len(job["artifacts"]) == len(NAMES)
    contents = set()
    for artifact in job["artifacts"]:
        answer = house.client.get(artifact["links"]["self"])
        assert answer.status_code == 200
        contents.add(answer.text)
        told = answer.headers
        assert told["content-disposition"].startswith("attachment; ")
        assert told["content-disposition"].isascii()
        assert told["x-content-type-options"] == "nosniff"
        assert "sandbox; default-src 'none'" in told["content-security-policy"]
        assert told["etag"] == f'"{artifact["sha256"]}"'
    assert contents == set(NAMES)


def test_parts_and_tags(house: House) -> None:
    job = house.run("open('a', 'wb').write(b'0123456789')")
    link = job["artifacts"][0]["links"]["self"]
    part = house.client.get(link, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    behind = house.client.get(link, headers={"Range": "bytes=10-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, "bytes */10")
    assert behind.headers["content-type"] == "application/problem+json"
    tag = part.headers["etag"]
    same = house.client.get(link, headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")


def test_an_empty_file_is_a_file(house: House) -> None:
    job = house.run("open('empty.txt', 'w')")
    assert [a["size"] for a in job["artifacts"]] == [0]
    assert house.fetch(job, "empty.txt") == b""


def test_other_callers_see_nothing(house: House) -> None:
    job = house.run("open('a', 'w').write('secret')")
    link = job["artifacts"][0]["links"]["self"]
    with house.connect() as other:
        assert other.get(link).status_code == 404
        assert other.get(f"/v1/jobs/{job['id']}/artifacts").status_code == 404
        missing = other.get(f"/v1/jobs/{uuid4()}/artifacts/a")
        found = other.get(link).json()
        assert {**missing.json(), "request_id": 0} == {**found, "request_id": 0}


def test_an_attempts_artifacts_have_links_of_their_own(house: House) -> None:
    job = house.run("open('a', 'w').write('x')")
    attempt = house.client.get(f"/v1/jobs/{job['id']}/attempts/1").json()
    (artifact,) = attempt["artifacts"]
    assert artifact["links"]["self"].endswith("/artifacts/a?attempt=1")
    assert house.client.get(artifact["links"]["self"]).text == "x"
    assert house.client.get(f"/v1/jobs/{job['id']}/artifacts/a?attempt=2").status_code == 404


def test_a_program_that_forges_results_shows_nothing_more(house: House) -> None:
    forged = json.dumps([{"type": "html", "text": "<script>"}])
    code = f"import os; os.mkdir('.retort'); open('.retort/results.json', 'w').write({forged!r})"
    job = house.run(code)
    assert (job["results"], job["artifacts"]) == ([], [])


@pytest.mark.parametrize(
    ("code", "results"),
    [
        ("x = 20\nx * 2", [{"type": "value", "text": "40"}]),
        ("{'a': [1, (2,)]}", [{"type": "value", "text": "{'a': [1, (2,)]}"}]),
        ("'doc'", []),
        ("print(1)", []),
        ("open('/tmp/x', 'w').write('abc')", []),
        ("class C:\n  def __repr__(self): raise SystemExit(3)\nc = C()\nc", []),
        ("class L(list):\n  def __repr__(self): raise SystemExit(3)\nc = [L()]\nc", []),
    ],
)
def test_the_last_expression(house: House, code: str, results: list[object]) -> None:
    job = house.run(code)
    assert (job["verdict"], job["results"], job["artifacts"]) == ("ok", results, [])


def test_the_last_expression_changes_no_traceback(house: House) -> None:
    for code, said in (
        ("x = 1\n\n(x /\n 0)", ['File "/work/main.py", line 3, in <module>', "ZeroDivisionError"]),
        ("from __future__ import annotations\n1 +\n", ['File "/work/main.py", line 2', "SyntaxError"]),
    ):
        job = house.run(code)
        assert job["verdict"] == "error"
        assert all(each in job["stderr"] for each in said), job["stderr"]
        assert "retort" not in job["stderr"]


@pytest.mark.parametrize("name", [name for name in WRONG if name != "\ud800"])
def test_a_name_that_may_not_be_used(house: House, name: str) -> None:
    before = house.stored("artifacts")
    body = {"code": "1", "files": [{"name": "fine", "content": ""}, {"name": name, "content": "x"}]}
    answer = house.client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "files.1.name"
    assert WRONG[name] in error["message"]
    assert house.stored("artifacts") == before


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([{"name": "a", "content": ""}, {"name": "a", "content": ""}], "files.1.name"),
        ([{"name": "main.py", "content": ""}], "files.0.name"),
        ([{"name": "a"}], "files.0"),
        ([{"name": "a", "content": "", "base64": ""}], "files.0"),
        ([{"content": ""}], "files.0.name"),
        ([{"name": "a", "content": "", "mode": 7}], "files.0.mode"),
        ([{"name": "a", "content": 1}], "files.0.content"),
        ([{"name": 1, "content": ""}], "files.0.name"),
        ([{"name": "a", "base64": "not base64"}], "files.0.base64"),
        ([{"name": "a", "base64": "YQ"}], "files.0.base64"),
        ([{"name": "a", "base64": "YR=="}], "files.0.base64"),
        ([{"name": "a", "base64": "YQ==\n"}], "files.0.base64"),
        ([{"name": "a", "base64": "-_-_"}], "files.0.base64"),
        ([{"name": "a", "base64": "ä==="}], "files.0.base64"),
        ([{"name": "a", "file": "no uuid"}], "files.0.file"),
        ([{"name": "a", "file": "01a1fed4-a703-730b-9dd7-e7574ed68b1e"}], "files.0.file"),
        ([{"name": f"{n}", "content": ""} for n in range(101)], "files"),
        ([{"name": f"{n}", "content": ""} for n in range(1000)], "files"),
        ([{"name": f"{n}", "content": ""} for n in range(10_000)], "body"),
        ("a", "files"),
        (["a"], "files.0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_files_that_a_job_cannot_have(house: House, files: object, field: str) -> None:
    answer = house.client.post("/v1/jobs", json={"code": "1", "files": files})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


def test_files_need_memory(house: House) -> None:
    file = {"name": "a", "content": "x" * (3 << 20)}
    body = {"code": "print(len(open('a').read()))", "files": [file], "limits": {"memory_mb": 4}}
    answer = house.client.post("/v1/jobs", json={**body, "limits": {"memory_mb": 16}, "files": [file] * 3})
    assert answer.status_code == 413  # the body itself is bounded
    small = {**body, "limits": {"memory_mb": 16}}
    job = house.run(small.pop("code"), **small)  # type: ignore[arg-type]
    assert job["stdout"] == f"{3 << 20}\n"


# --- run again, and deleted ---------------------------------------------------------------------------


def test_a_rerun_has_the_same_files(house: House) -> None:
    uploaded = house.client.post("/v1/files?name=u", content=b"\x00\xff").json()
    files = [
        {"name": "a", "base64": "AP8="},
        {"name": "u", "file": uploaded["id"]},
        {"name": "b", "content": "text"},
    ]
    job = house.run("print(*(open(name, 'rb').read() for name in 'aub'))", files=files)
    path = f"{job['links']['self']}/rerun"
    again = house.client.post(path, json={}, headers={"Prefer": "wait=50"}).json()
    assert (again["files"], again["stdout"]) == (job["files"], job["stdout"])
    assert (again["rerun_of"], again["id"] != job["id"]) == (job["id"], True)


def test_with_a_job_go_its_artifacts(house: House) -> None:
    job = house.run("open('left', 'w').write('x')")
    before = house.stored("artifacts")
    assert house.client.delete(job["links"]["self"]).status_code == 204
    assert len(before - house.stored("artifacts")) == 1
