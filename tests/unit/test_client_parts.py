"""The small parts of the client: what it makes of what it is given, and of answers."""

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retort.client import Job, ProgramFailed, RetortError
from retort.client.offers import File
from retort.client.requests import body_of, code_of, inline, sources_of, to_upload
from tests.asked import JOB

# --- requests --------------------------------------------------------------------------------------


def test_a_request_has_what_was_given_and_nothing_else(tmp_path: Path) -> None:
    tests = tmp_path / "tests.py"
    tests.write_text("assert add(1, 2) == 3")
    options = {
        "check": tests,
        "args": ("-x",),
        "limits": {"timeout_s": 5, "memory_mb": None},
        "model": None,
        "stdin": "",
        "extra": {"from_tomorrow": 1},
    }
    assert body_of(options, {"task": "add"}, cache=True) == {
        "task": "add",
        "check": {"tests": "assert add(1, 2) == 3"},
        "args": ["-x"],
        "limits": {"timeout_s": 5},
        "stdin": "",
        "cache": True,
        "from_tomorrow": 1,
    }
    assert body_of({"expect": "3\n", "cache": False}, {}, cache=True) == {
        "check": {"stdout": "3\n"},
        "cache": False,
    }
    with pytest.raises(ValueError, match="not both"):
        body_of({"expect": "3", "check": "assert 1"}, {})


@pytest.mark.parametrize(
    ("name", "language"), [("a.py", "python"), ("b.R", "r"), ("c.mjs", "javascript"), ("d.txt", None)]
)
def test_the_name_of_a_path_tells_the_language(tmp_path: Path, name: str, language: str | None) -> None:
    path = tmp_path / name
    path.write_text("1")
    assert code_of(path).get("language") == language
    body = body_of({"language": "bash"}, code_of(path))
    assert body == {"code": "1", "language": "bash"}


def test_small_files_are_in_the_request_and_large_ones_are_uploaded(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(b"\0" * (2 << 20))
    sources = sources_of(
        {"a.txt": "text", "b.bin": b"\xff", "c.bin": large, "d": File(id="f", name="d", size=9)}
    )
    assert to_upload(sources) == ["c.bin"]
    assert inline("a.txt", sources["a.txt"]) == {"name": "a.txt", "content": "text"}
    assert inline("b.bin", sources["b.bin"]) == {"name": "b.bin", "base64": "/w=="}
    assert inline("d", sources["d"]) == {"name": "d", "file": "f"}
    assert list(sources_of([large])) == ["large.bin"]
    with pytest.raises(ValueError, match="two files are named"):
        sources_of([large, tmp_path / "other" / "large.bin"])
    with pytest.raises(TypeError):
        sources_of("large.bin")


# --- answers ---------------------------------------------------------------------------------------


def test_fields_of_newer_and_older_services_are_no_error() -> None:
    document = {**JOB, "verdict": "of_tomorrow", "colour": "blue", "usage": {"wall_s": 1, "joules": 3}}
    job = Job.of(document)
    assert (job.verdict, job.stdout, job.usage.wall_s, job.artifacts) == ("of_tomorrow", "", 1.0, ())
    assert job.document == document
    assert job.colour == "blue"  # type: ignore[attr-defined]


def test_output_is_byte_exact_and_text_where_text_is_wanted() -> None:
    raw = bytes(range(256))
    document = {
        **JOB,
        "stdout": base64.b64encode(raw).decode(),
        "stdout_encoding": "base64",
        "stderr": "é\r\n",
        "stderr_encoding": "utf-8",
    }
    job = Job.of(document)
    assert job.output() == raw
    assert job.stdout.startswith("\x00\x01")
    assert job.output("stderr") == b"\xc3\xa9\r\n"
    assert job.document == document


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),
        ({"verdict": "error"}, False),
        ({"state": "broken", "verdict": None}, False),
        ({"outcome": "failed"}, False),
        ({"outcome": "passed"}, True),
        ({"state": "running", "verdict": None}, False),
    ],
)
def test_a_job_is_ok_when_its_program_ended_well(change: dict[str, Any], ok: bool) -> None:
    job = Job.of({**JOB, **change})
    assert job.ok is ok
    if ok:
        assert job.must_succeed() is job
    else:
        with pytest.raises(ProgramFailed):
            job.must_succeed()


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a\\b", "a\x00", "link/a"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    from retort.client.file_calls import below

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(RetortError, match="is no name of a file below"):
        below(folder, name)


def test_importing_it_takes_none_of_what_the_service_needs() -> None:
    code = "import sys; from retort import Retort, AsyncRetort; print(*sys.modules)"
    command = [sys.executable, "-P", "-c", code]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert {"retort.client.clients", "httpx"} <= loaded
    heavy = {"fastapi", "starlette", "sqlalchemy", "celery", "redis", "docker", "aiohttp", "typer", "psycopg"}
    assert not loaded & (heavy | {"api", "worker", "domain", "storage"})


def test_the_command_line_waits_for_the_client_only_where_it_is_used() -> None:
    command = [sys.executable, "-P", "-c", "import sys, retort.cli.main; print(*sys.modules)"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"httpx", "pydantic", "retort.client.clients", "fastapi", "sqlalchemy", "celery"}
