"""`retort run`: exit codes, output byte for byte, which key goes where. A transport stands in for the API."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from domain.states import State, Verdict
from retort.cli import exits
from retort.cli.main import app
from retort.cli.run import summary
from retort.client import DEFAULT_URL, Client, Refused, Service, output
from retort.state import StateFolder


def job(**more: Any) -> dict[str, Any]:
    """A finished job as the API tells it."""
    return {
        "id": "j",
        "state": "finished",
        "verdict": "ok",
        "exit_code": 0,
        "signal": None,
        "stdout": "",
        "stdout_encoding": "utf-8",
        "stdout_bytes": 0,
        "stdout_truncated": None,
        "stderr": "",
        "stderr_encoding": "utf-8",
        "stderr_bytes": 0,
        "stderr_truncated": None,
        "usage": {},
    } | more


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (job(), 0),
        (job(verdict="error", exit_code=7), 7),
        (job(verdict="error", exit_code=0), 1),
        (job(verdict="signalled", exit_code=None, signal=11), 139),
        (job(verdict="timeout", exit_code=None, signal=9), 124),
        (job(verdict="out_of_memory", exit_code=1), 137),
        (job(state="cancelled", verdict=None), 130),
        (job(state="broken", verdict=None), 70),
    ],
)
def test_exit_code_tells_how_the_job_ended(ended: dict[str, Any], code: int) -> None:
    assert exits.of_job(ended) == code


def test_every_verdict_and_final_state_has_an_exit_code_of_its_own() -> None:
    codes = {verdict: exits.of_job(job(verdict=verdict.value, exit_code=3, signal=6)) for verdict in Verdict}
    assert len(set(codes.values())) == len(Verdict)
    assert exits.OUR_FAILURE not in codes.values()
    assert exits.of_job(job(state=State.BROKEN.value)) == exits.OUR_FAILURE


@pytest.mark.parametrize(("status", "code"), [(401, 77), (422, 64), (413, 64), (429, 69), (503, 69), (500, 69)])
def test_exit_code_tells_why_a_request_was_refused(status: int, code: int) -> None:
    assert exits.of_refusal(status) == code


def test_output_is_byte_exact() -> None:
    raw = bytes(range(256))
    found = job(stdout=base64.b64encode(raw).decode(), stdout_encoding="base64", stderr="é\r\n")
    assert output(found, "stdout") == raw
    assert output(found, "stderr") == b"\xc3\xa9\r\n"


def test_summary_says_what_was_used() -> None:
    usage = {"wall_s": 0.0124, "cpu_s": 1.5, "peak_memory_bytes": 21 * 2**20, "sandbox_start": "warm"}
    line = summary(job(verdict="out_of_memory", exit_code=1, usage=usage))
    assert line == "out of memory (exit code 1), wall 12 ms, CPU 1.50 s, memory 21 MB, warm sandbox"


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """The state folder of a service on port 1234."""
    folder = StateFolder(tmp_path / "state")
    folder.create()
    folder.keep_api_key("rt_local")
    folder.write_status({"url": "http://127.0.0.1:1234"})
    return folder


def test_without_variables_the_service_of_this_folder_is_used(state: StateFolder) -> None:
    assert Service.find({}, state) == Service("http://127.0.0.1:1234", "rt_local")


def test_variables_come_first(state: StateFolder) -> None:
    env = {"RETORT_URL": "https://example.org/", "RETORT_API_KEY": "rt_other"}
    assert Service.find(env, state) == Service("https://example.org", "rt_other")


def test_the_local_key_is_never_sent_elsewhere(state: StateFolder) -> None:
    assert Service.find({"RETORT_URL": "https://example.org"}, state).key is None


def test_without_anything_the_default_address_is_tried(tmp_path: Path) -> None:
    assert Service.find({}, StateFolder(tmp_path)) == Service(DEFAULT_URL, None)


def test_the_key_file_is_private(state: StateFolder) -> None:
    assert state.api_key_file.stat().st_mode & 0o777 == 0o600
    assert state.root.stat().st_mode & 0o777 == 0o700


def test_waits_until_the_job_has_ended_even_through_a_hiccup() -> None:
    answers = iter([(202, job(state="queued")), (503, {}), (200, job(state="running")), (200, job())])
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        status, document = next(answers)
        return httpx.Response(status, json=document)

    seen: list[str] = []
    client = Client(Service("http://127.0.0.1:1", "k"), httpx.MockTransport(handle))
    assert client.run({"code": "1"}, lambda found: seen.append(found["state"]))["verdict"] == "ok"
    assert asked == [("POST", "/v1/jobs"), *[("GET", "/v1/jobs/j")] * 3]
    assert seen == ["queued", "running", "finished"]


def test_a_problem_document_is_shown_with_what_would_be_allowed() -> None:
    problem = {
        "title": "The request says something that is not allowed",
        "detail": "limits.memory_mb: is too much",
        "errors": [{"field": "limits.memory_mb", "message": "is too much", "allowed": "16 to 512"}],
    }
    client = Client(
        Service("http://127.0.0.1:1", "k"), httpx.MockTransport(lambda _: httpx.Response(422, json=problem))
    )
    with pytest.raises(Refused, match="allowed: 16 to 512") as refused:
        client.run({"code": "1"})
    assert refused.value.status == 422


def test_the_command_sends_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent: dict[str, Any] = {}

    def handle(self: Client, request: dict[str, Any], on_change: object) -> dict[str, Any]:
        sent.update(request)
        return job(stdout="out\n", stderr="err\n", verdict="error", exit_code=3)

    monkeypatch.setattr(Client, "run", handle)
    monkeypatch.setenv("RETORT_STATE_DIR", str(tmp_path / "none"))
    program = tmp_path / "a.js"
    program.write_text("1")
    (tmp_path / "in").write_text("given")
    words = ["run", str(program), "-t", "5", "-m", "64", "--stdin", str(tmp_path / "in"), "--", "-x", "y"]
    found = CliRunner().invoke(app, words)
    assert sent == {
        "code": "1",
        "language": "javascript",
        "limits": {"timeout_s": 5, "memory_mb": 64},
        "stdin": "given",
        "args": ["-x", "y"],
    }
    assert found.exit_code == 3
    assert found.stdout == "out\n"
    assert found.stderr.startswith("err\nretort: error (exit code 3)")

    as_json = CliRunner().invoke(app, ["run", str(program), "--json"])
    assert json.loads(as_json.stdout)["exit_code"] == 3


def test_a_file_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["run", str(tmp_path / "none.py")]).exit_code == exits.NO_INPUT
