"""What a program leaves to be fetched: links, pipes, holes, names, depths, markup, and other callers."""

import hashlib
from urllib.parse import quote
from uuid import uuid4

import httpx

from tests.hostile.entries import Document, Program, Result, Story
from tests.hostile.stage import Stage


def _left(result: Result) -> dict[str, str]:
    return {each["name"]: each["reason"] for each in result.job["left_out"]}


def _kept(result: Result) -> dict[str, int]:
    return {each["name"]: each["size"] for each in result.job["artifacts"]}


def _links(result: Result) -> None:
    assert _kept(result) == {"d/kept": 5}, result.job["artifacts"]
    assert set(_left(result).values()) == {"symlink"}, _left(result)
    assert len(_left(result)) == 8


def _special(result: Result) -> None:
    assert _kept(result) == {}
    left = _left(result)
    assert {left["fifo"], left["socket"], left["d/fifo"]} == {"special"}, left
    assert left["closed"] == "unreadable" or left["closed"].startswith("unreadable"), left
    assert set(left.values()) <= {"special", "unreadable"}, left


def _giants(result: Result) -> None:
    assert _kept(result) == {"kept": 2}, result.job["artifacts"]
    assert _left(result) == {"giant": "too_large", "d/giant": "too_large"}


def _deep(result: Result) -> None:
    assert _kept(result) == {"kept": 1, "d/d/kept": 1}, result.job["artifacts"]
    assert "too_deep" in _left(result).values(), _left(result)
    assert len(result.job["left_out"]) <= 100


def _many(result: Result) -> None:
    job = result.job
    assert len(job["artifacts"]) <= 100
    assert len(job["artifacts"]) + len(job["left_out"]) + job["left_out_more"] >= 5000
    assert set(_left(result).values()) <= {"too_many", "time"}, set(_left(result).values())


def _no_results(result: Result) -> None:
    assert result.job["results"] == []
    assert result.job["artifacts"] == []


#: Names that are data: what they would mean to a shell, a browser, a path or a screen means nothing here.
NAMES = (
    "new\nline.html", "\u202egpj.exe", "-rf", "CON", '"; a=b.svg', "d/<script>.html", "gr\u00fcn%41.txt", "x" * 255, " ",
    "..\\x", "%2e%2e%2fx", "...", "a;b", "a\tb", "'\"`$(id)", "\u00e9", "e\u0301", "d/.hidden", "\\x41", "http:", "d/%00",
)  # fmt: skip


def strange_names_as_artifacts(stage: Stage) -> None:
    """Every name can be told and fetched, and none is anything but a name."""
    code = (
        f"import os; os.mkdir('d')\nfor name in {NAMES!r}: open(name, 'w').write(name)\n"
        "for name in (b'\\xc3', b'd/\\xff\\xfe'): open(name, 'wb').write(name)"
    )
    job = stage.run(code).job
    assert (job["verdict"], job["left_out"]) == ("ok", []), job
    assert len(job["artifacts"]) == len(NAMES) + 2
    contents = set()
    for artifact in job["artifacts"]:
        assert artifact["name"].isprintable()
        answer = stage.mallory.get(artifact["links"]["self"])
        assert answer.status_code == 200, artifact
        assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
        _safe(answer)
        contents.add(answer.content)
    assert contents == {name.encode() for name in NAMES} | {b"\xc3", b"d/\xff\xfe"}


def _safe(answer: httpx.Response) -> None:
    told = answer.headers
    assert told["content-disposition"].startswith("attachment; ")
    assert told["content-disposition"].isascii()
    assert told["content-disposition"].isprintable()
    assert told["x-content-type-options"] == "nosniff"
    assert "sandbox; default-src 'none'" in told["content-security-policy"]
    assert "set-cookie" not in told


def _without_id(answer: httpx.Response) -> tuple[int, Document]:
    return answer.status_code, {**answer.json(), "request_id": None}


def artifacts_of_others(stage: Stage) -> None:
    """Another caller's artifact, one that is gone and one that never was are the same; no path leads out."""
    job = stage.run("open('a', 'w').write('private')", stage.alice).job
    link = job["artifacts"][0]["links"]["self"]
    path = f"{job['links']['self']}/artifacts"
    never = _without_id(stage.mallory.get(f"/v1/jobs/{uuid4()}/artifacts/a"))
    assert never[0] == 404
    for again in (link, f"{link}?attempt=1", f"{path}/b", f"{path}/%2e%2e/a"):
        answer = stage.mallory.get(again)
        assert _without_id(answer) == never, again
    assert stage.mallory.get(path).status_code == 404
    assert stage.client(None).get(link).status_code == 401  # there is no link that works without a key
    assert stage.mallory.delete(job["links"]["self"]).status_code == 404
    assert stage.alice.get(link).text == "private"
    outside = (
        "../../../etc/passwd",
        "/etc/passwd",
        "%2e%2e%2f%2e%2e%2fcanary",
        "..%5c..%5ccanary",
        "a%00",
        "a/",
        "%2e/a",
        "//a",
    )
    for name in (*outside, *map(quote, outside), job["id"], "main.py", str(stage.canaries.file)):
        answer = stage.alice.get(f"{path}/{name}")
        assert answer.status_code == 404, (name, answer.status_code)
        assert stage.canaries.secret not in answer.text
    assert stage.alice.delete(job["links"]["self"]).status_code == 204
    assert _without_id(stage.alice.get(link)) == never


def markup_as_artifact(stage: Stage) -> None:
    """Pages and pictures with scripts in them are saved, never shown: whatever a browser asks for."""
    page = "<html><script>alert(document.cookie)</script><img src=x onerror=alert(1)>"
    picture = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
    files = {
        "a.html": page,
        "a.svg": picture,
        "a.xml": page,
        "a.txt": page,
        "a": page,
        "a.js": "alert(1)",
        "a.md": page,
    }
    code = f"for name, text in {files!r}.items(): open(name, 'w').write(text)"
    job = stage.run(code).job
    assert {each["name"] for each in job["artifacts"]} == set(files)
    accepted: Document = {"Accept": "text/html", "Sec-Fetch-Dest": "iframe", "Origin": "http://evil.invalid"}
    for artifact in job["artifacts"]:
        for headers in (accepted, {**accepted, "Range": "bytes=1-"}):
            answer = stage.mallory.get(artifact["links"]["self"], headers=headers)
            assert answer.status_code in {200, 206}
            _safe(answer)
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["x-frame-options"] == "DENY"


ENTRIES = [
    Program(
        "links_as_artifacts",
        "mkdir d; echo kept > d/kept\n"
        "ln -s /etc/passwd passwd; ln -s /proc/1/environ environ; ln -s ../../.. up; ln -s / root; ln -s loop loop\n"
        "ln -s /etc d/etc; ln -s kept d/near; ln -s /proc/self/fd/0 fd\n"
        "ln /etc/passwd hard && echo linked; ln /proc/self/environ hard2 && echo linked\ntrue",
        stdout="",
        look=_links,
        more={"language": "bash"},
        fast=True,
    ),
    Program(
        "special_files_as_artifacts",
        "import os, socket, stat\n"
        "os.mkdir('d'); os.mkfifo('fifo'); os.mkfifo('d/fifo')\n"
        "socket.socket(socket.AF_UNIX).bind('/work/socket')\n"
        "open('closed', 'w').write('x'); os.chmod('closed', 0)\n"
        "os.mkdir('hidden'); os.mkfifo('hidden/fifo'); os.chmod('hidden', 0)\n"
        "for kind in (stat.S_IFCHR, stat.S_IFBLK):\n"
        "    try: os.mknod(f'device{kind}', kind | 0o666, os.makedev(1, 5))\n"
        "    except OSError: pass",
        look=_special,
    ),
    Program(
        "sparse_giant_as_artifact",
        "mkdir d; truncate -s 200M giant; truncate -s 65M d/giant; echo x > kept",
        look=_giants,
        limits={"timeout_s": 20, "memory_mb": 64},
        more={"language": "bash"},
        fast=True,
    ),
    Program(
        "deep_directories_as_artifacts",
        "import os\nopen('kept', 'w').write('x'); os.makedirs('d/d'); open('d/d/kept', 'w').write('x')\n"
        "for _ in range(3000):\n"
        "    if not os.path.exists('d'): os.mkdir('d')\n"
        "    os.chdir('d')\n"
        "open('bottom', 'w').write('x')",
        look=_deep,
    ),
    Program(
        "thousands_of_artifacts",
        'fn main() { for n in 0..5000 { std::fs::write(format!("f{n}"), "x").unwrap(); } }',
        look=_many,
        more={"language": "rust"},
    ),
    Program(
        "forged_results",
        "const fs = require('fs'); fs.mkdirSync('.retort');\n"
        "fs.writeFileSync('.retort/results.json', JSON.stringify([{type: 'html', text: '<script>'}, 1]));\n"
        "fs.symlinkSync('/etc/passwd', '.retort/figure-1.png');",
        look=_no_results,
        more={"language": "javascript"},
    ),
    Story("strange_names_as_artifacts", strange_names_as_artifacts),
    Story("artifacts_of_others", artifacts_of_others, fast=True),
    Story("markup_as_artifact", markup_as_artifact),
]
