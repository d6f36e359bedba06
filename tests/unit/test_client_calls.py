"""Calls of the client without a service: what they send, when they come again, what they refuse."""

from contextlib import suppress

import httpx
import pytest
from httpx_sse import EventSource

from api.problems import Kind
from retort.client import Refused, UnexpectedAnswer, Unreachable
from retort.client.calls import Calls
from retort.client.errors import NotFound, Overloaded
from retort.client.exchange import backoff, retry_after
from retort.client.offers import File
from retort.client.steps import Give, Next, Open
from tests.asked import JOB, PROBLEM, Asked, answer, calls, problem, submit

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


# --- refusals --------------------------------------------------------------------------------------


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
