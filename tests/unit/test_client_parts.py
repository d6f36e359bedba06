"""The client without a service: what it sends, what it makes of answers, when it comes again.

Calls are generators, so that they can be asked one step after the other what they would do.
"""

import base64
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource

from api.problems import Kind
from retort.client import Config, Job, ProgramFailed, Refused, RetortError, UnexpectedAnswer, Unreachable
from retort.client.calls import Calls
from retort.client.errors import NotFound, Overloaded
from retort.client.exchange import backoff, retry_after
from retort.client.offers import File
from retort.client.requests import body_of, code_of, inline, sources_of, to_upload
from retort.client.steps import Give, Next, Open, Request, Send, Sleep

JOB = {"id": "j", "state": "finished", "verdict": "ok"}
PROBLEM = "urn:retort:problem:"


def answer(status: int, document: Any = JOB, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, json=document, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def problem(kind: Kind, **headers: str) -> httpx.Response:
    found = kind.value
    document = {"type": kind.type, "title": found[2], "status": found[1], "detail": "d", "request_id": "r"}
    return answer(found[1], document, **headers)


class Asked:
    """A call that is asked step by step, and what it did so far."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps
        self.sent: list[Request] = []
        self.slept: list[float] = []
        self.result: Any = None

    def answered(self, *replies: httpx.Response | Exception) -> "Asked":
        """Answer each request in turn; there must be as many as replies."""
        left = list(replies)
        step = next(self.steps)
        try:
            while True:
                if isinstance(step, Sleep):
                    self.slept.append(step.seconds)
                    step = self.steps.send(None)
                    continue
                assert isinstance(step, Send)
                self.sent.append(step.request)
                reply = left.pop(0)
                step = self.steps.throw(reply) if isinstance(reply, Exception) else self.steps.send(reply)
        except StopIteration as end:
            self.result = end.value
        assert left == []
        return self


def calls(**settings: Any) -> Calls:
    return Calls(Config(**{"url": "http://127.0.0.1:1", "api_key": "rt_k", **settings}), None, None)


def submit(client: Calls, **options: Any) -> Asked:
    return Asked(Calls.submit(client, "print(1)", **options))


# --- streams ---------------------------------------------------------------------------------------


def test_signs_of_life_between_events_are_no_events() -> None:
    """After a first event, the decoder gives one without data for the blank line behind each."""
    sent = "id: 1\nevent: state\ndata: {}\n\n: ping\n\n: ping\n\nid: 2\nevent: done\ndata: {}\n\n"
    heard = EventSource(
        httpx.Response(200, text=sent, headers={"content-type": "text/event-stream"})
    ).iter_sse()
    steps = Calls.events(calls(), "j")
    given: list[tuple[str | None, str]] = []
    step = next(steps)
    with suppress(StopIteration):
        while True:
            match step:
                case Open():
                    step = steps.send(httpx.Response(200))
                case Next():
                    step = steps.send(next(heard, None))
                case Give(value=event):
                    given.append((event.id, event.kind))
                    step = steps.send(None)
                case _:
                    raise AssertionError(step)
    assert given == [("1", "state"), ("2", "done")]


# --- coming again ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lost",
    [
        problem(Kind.OVERLOADED),
        problem(Kind.RATE_LIMITED, retry_after="1"),
        problem(Kind.INTERNAL),
        problem(Kind.UNAVAILABLE, retry_after="2"),
        httpx.Response(502, text="<h1>Bad gateway</h1>"),
        httpx.ReadTimeout("late"),
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("cut"),
    ],
)
def test_a_creating_call_comes_again_with_the_same_key(lost: httpx.Response | Exception) -> None:
    asked = submit(calls()).answered(lost, answer(202))
    first, second = asked.sent
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first == second
    wanted = 0.0 if isinstance(lost, Exception) else float(lost.headers.get("retry-after", 0))
    assert asked.slept[0] >= wanted
    assert asked.result.id == "j"


def test_each_call_has_a_key_of_its_own_and_one_that_is_given_is_used() -> None:
    client = calls()
    keys = [submit(client).answered(answer(202)).sent[0].headers["Idempotency-Key"] for _ in range(2)]
    assert keys[0] != keys[1]
    given = submit(client, idempotency_key="mine").answered(answer(202))
    assert given.sent[0].headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize(
    "final",
    [
        problem(Kind.INVALID),
        problem(Kind.UNAUTHORIZED),
        problem(Kind.NO_GATEWAY),
        problem(Kind.QUOTA_EXCEEDED, retry_after="30000"),
    ],
)
def test_what_will_not_change_is_told_at_once(final: httpx.Response) -> None:
    with pytest.raises(Refused) as refused:
        submit(calls()).answered(final)
    assert refused.value.status == final.status_code


def test_it_gives_up_after_the_retries() -> None:
    asked = submit(calls(max_retries=2))
    with pytest.raises(Overloaded, match="d"):
        asked.answered(*[problem(Kind.OVERLOADED)] * 3)
    assert len(asked.sent) == 3
    with pytest.raises(Unreachable, match="does not answer"):
        submit(calls(max_retries=0)).answered(httpx.ConnectTimeout("away"))


def test_an_upload_that_was_perhaps_stored_is_not_sent_again() -> None:
    client = calls()
    with pytest.raises(Unreachable):
        Asked(Calls.upload(client, b"x")).answered(httpx.ReadTimeout("late"))
    with pytest.raises(Refused):
        Asked(Calls.upload(client, b"x")).answered(problem(Kind.UNAVAILABLE))
    file = {"id": "f", "name": "file", "size": 1}
    asked = Asked(Calls.upload(client, b"x")).answered(
        httpx.ConnectError("refused"), problem(Kind.RATE_LIMITED), answer(201, file)
    )
    assert isinstance(asked.result, File)


def test_what_is_gone_after_a_lost_answer_was_deleted_by_us() -> None:
    Asked(Calls.delete(calls(), "j")).answered(httpx.ReadTimeout("late"), problem(Kind.NOT_FOUND))
    with pytest.raises(NotFound):
        Asked(Calls.delete(calls(), "j")).answered(problem(Kind.NOT_FOUND))


def test_pauses_double_and_have_jitter_and_an_end() -> None:
    for tries, most in ((1, 0.25), (2, 0.5), (3, 1.0), (20, 8.0)):
        pauses = {backoff(tries) for _ in range(20)}
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len(pauses) > 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("-4", 0.0),
        ("nan", None),
        ("tomorrow", None),
        (None, None),
        ("Wed, 99 Foo", None),
    ],
)
def test_retry_after_in_every_spelling(said: str | None, seconds: float | None) -> None:
    assert retry_after(said) == seconds


# --- waiting ---------------------------------------------------------------------------------------


def test_run_waits_with_long_polls_until_the_end() -> None:
    asked = Asked(Calls.run(calls(timeout_s=None), "print(1)", language="python"))
    going = {**JOB, "state": "running", "verdict": None}
    asked.answered(answer(202, going), answer(200, going), answer(200))
    assert [(each.method, each.path) for each in asked.sent] == [
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs/j"),
        ("GET", "/v1/jobs/j"),
    ]
    assert asked.sent[0].headers["Prefer"] == "wait=30"
    assert [each.params for each in asked.sent[1:]] == [{"wait": "30"}] * 2
    assert asked.slept  # the answers came sooner than they were asked to
    assert asked.result.ok


def test_a_short_timeout_is_told_to_the_service() -> None:
    asked = Asked(Calls.run(calls(timeout_s=2.5), "1")).answered(answer(200))
    assert asked.sent[0].headers["Prefer"] == "wait=3"
    asked = Asked(Calls.run(calls(), "1", timeout_s=0)).answered(answer(200))
    assert "Prefer" not in asked.sent[0].headers


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


def test_there_is_an_exception_for_each_type_of_problem() -> None:
    assert set(Refused.types()) == {kind.type for kind in Kind}
    for kind in Kind:
        client = calls(max_retries=0)
        with pytest.raises(Refused.types()[kind.type]) as refused:
            submit(client).answered(problem(kind))
        error = refused.value
        assert (error.status, error.request_id, error.problem["detail"]) == (kind.status, "r", "d")


def test_a_problem_of_tomorrow_is_refused_all_the_same() -> None:
    document = {"type": PROBLEM + "of-tomorrow", "title": "New", "status": 418, "detail": "d"}
    with pytest.raises(Refused, match="New: d") as refused:
        submit(calls()).answered(answer(418, document))
    assert type(refused.value) is Refused


def test_a_problem_is_shown_with_what_would_be_allowed() -> None:
    document = {
        "type": PROBLEM + "invalid",
        "title": "The request says something that is not allowed",
        "errors": [{"field": "limits.memory_mb", "message": "is too much", "allowed": "16 to 512"}],
    }
    with pytest.raises(Refused, match=r"limits\.memory_mb: is too much \(allowed: 16 to 512\)"):
        submit(calls()).answered(answer(422, document))


def test_without_a_key_the_message_says_how_to_give_one() -> None:
    with pytest.raises(Refused, match="set RETORT_API_KEY"):
        submit(calls(api_key=None)).answered(problem(Kind.UNAUTHORIZED))


@pytest.mark.parametrize(
    "strange",
    [
        httpx.Response(200, text="<html>hello</html>"),
        answer(200, ["a list"]),
        answer(200, {"id": 7}),
        httpx.Response(404, text="not here"),
        answer(404, {"error": "not here"}),
    ],
)
def test_an_answer_that_is_not_ours_is_told_as_such(strange: httpx.Response) -> None:
    with pytest.raises(UnexpectedAnswer, match="not as Retort does"):
        submit(calls()).answered(strange)


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
