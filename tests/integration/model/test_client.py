"""The client against the scripted model over real sockets: right answers, and every way to get none."""

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import eventually
from tests.models import KEY, MODEL, a_call, a_gateway, ask, ask_async, scripted_process
from worker.model.client import GatewayClient
from worker.model.gateways import Deadlines, Served
from worker.model.keys import Key, KeyFile, KeyShape
from worker.model.types import Failure, Finish, Message, ModelAnswer, ModelError

DIALECTS = ("openai", "anthropic")
FORMS = [(dialect, stream) for dialect in DIALECTS for stream in (True, False)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scripted model that takes the usual key alone."""
    log = tmp_path_factory.mktemp("scripted") / "log"
    with scripted_process(log, "--key", KEY.reveal()) as base:
        yield base


def seen(url: str) -> dict[str, Any]:
    """What the scripted model saw."""
    found: dict[str, Any] = httpx.get(f"{url.removesuffix('/v1')}/scripted/seen").json()
    return found


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
def test_an_answer_is_read_whole(url: str, dialect: str, *, stream: bool) -> None:
    call = a_call("[scripted:right] in Rust", system="You write programs.")
    answer = ask(a_gateway(url, dialect, stream=stream), call)
    assert answer.text.startswith("Here it is:\n\n```rust\nfn main()")
    assert answer.finish is Finish.STOP
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, len(answer.text) // 4)
    assert not answer.usage.estimated
    assert answer.model == MODEL
    assert answer.model_version == f"scripted/{MODEL}"
    assert answer.scripted
    assert 0 < answer.first_byte_s <= answer.latency_s


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_sent(url: str, dialect: str) -> None:
    served = {MODEL: Served(MODEL, "vendor/model", frozenset({"top_p"}))}
    call = a_call(
        "[scripted:right]",
        system="Be brief.",
        temperature=0.3,
        top_p=0.9,
        max_tokens=77,
        stop=("END",),
    )
    answer = ask(a_gateway(url, dialect, models=served, stream=False), call)
    last = seen(url)["last"]
    assert last["request_id"] == answer.request_id
    user = {"role": "user", "content": "[scripted:right]"}
    common = {"model": "vendor/model", "temperature": 0.3, "max_tokens": 77}
    if dialect == "openai":
        system = {"role": "system", "content": "Be brief."}
        assert last["body"] == {**common, "messages": [system, user], "stop": ["END"]}
    else:
        assert last["body"] == {**common, "messages": [user], "system": "Be brief.", "stop_sequences": ["END"]}


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
def test_a_conversation_goes_on(url: str, dialect: str, *, stream: bool) -> None:
    gateway = a_gateway(url, dialect, stream=stream)
    task = Message("user", "[scripted:wrong-then-right] in Python")
    first = ask(gateway, a_call("", messages=(task,)))
    again = (task, Message("assistant", first.text), Message("user", "NameError: undefined_name"))
    assert "print(undefined_name)" in first.text
    assert "hello from" in ask(gateway, a_call("", messages=again)).text


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
@pytest.mark.parametrize(
    ("script", "finish"),
    [("truncated", Finish.LENGTH), ("no-finish", Finish.LENGTH), ("refusal", Finish.REFUSAL)],
)
def test_an_answer_that_did_not_just_stop(
    url: str, dialect: str, script: str, finish: Finish, *, stream: bool
) -> None:
    answer = ask(a_gateway(url, dialect, stream=stream), f"[scripted:{script}]")
    assert answer.finish is finish
    assert answer.text


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
def test_missing_usage_is_estimated_and_marked(url: str, dialect: str, *, stream: bool) -> None:
    usage = ask(a_gateway(url, dialect, stream=stream), "[scripted:no-usage]").usage
    assert usage.estimated
    assert usage.input_tokens
    assert usage.output_tokens


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("script", "kind", "status"),
    [
        ("error-500", Failure.SERVER, 500),
        ("overloaded", Failure.OVERLOADED, 529),
        ("unauthorized", Failure.AUTH, 401),
        ("no-credit", Failure.QUOTA, 429),
        ("context", Failure.CONTEXT, 400),
        ("malformed", Failure.BAD_RESPONSE, None),
        ("html", Failure.BAD_RESPONSE, None),
        ("empty", Failure.BAD_RESPONSE, None),
        ("disconnect", Failure.CONNECTION, None),
        ("cut", Failure.CONNECTION, None),
    ],
)
def test_kinds_of_failure(url: str, dialect: str, script: str, kind: Failure, status: int | None) -> None:
    with pytest.raises(ModelError) as error:
        ask(a_gateway(url, dialect), f"[scripted:{script}]")
    assert (error.value.kind, error.value.status) == (kind, status)
    assert error.value.detail
    assert error.value.gateway == "test"
    assert error.value.model == MODEL
    assert bool(error.value.hints) is (kind is Failure.AUTH)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tokens_of_half_an_answer_are_counted(url: str, dialect: str) -> None:
    for script in ("cut", "late-error"):
        with pytest.raises(ModelError) as error:
            ask(a_gateway(url, dialect), f"[scripted:{script}]")
        assert error.value.usage is not None
        assert error.value.usage.input_tokens


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
def test_an_error_in_a_good_status_is_an_error(url: str, dialect: str, *, stream: bool) -> None:
    with pytest.raises(ModelError) as error:
        ask(a_gateway(url, dialect, stream=stream), "[scripted:late-error]")
    overloaded = dialect == "anthropic" and stream
    assert error.value.kind is (Failure.OVERLOADED if overloaded else Failure.SERVER)
    assert "provider failed" in error.value.detail or overloaded


def test_json_that_says_nothing_is_a_bad_response(url: str) -> None:
    for dialect in DIALECTS:
        with pytest.raises(ModelError) as error:
            ask(a_gateway(url, dialect, stream=False), "[scripted:wrong-schema]")
        assert error.value.kind is Failure.BAD_RESPONSE


def test_the_wait_that_is_asked_for_is_told(url: str) -> None:
    gateway = a_gateway(url)
    call = a_call("[scripted:rate-limited] once")
    with pytest.raises(ModelError) as error:
        ask(gateway, call)
    assert (error.value.kind, error.value.retry_after_s) == (Failure.RATE_LIMITED, 1.0)
    assert "right after a wait" in ask(gateway, call).text


@pytest.mark.parametrize(
    ("script", "deadlines", "missing"),
    [
        ("hang", Deadlines(first_byte_s=0.2), "the first byte within 0.2 s"),
        ("drip", Deadlines(idle_s=0.3), "the next byte within 0.3 s"),
        ("drip", Deadlines(total_s=1.5), "the end in time"),
        ("slow", Deadlines(total_s=0.3), "the end in time"),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_deadlines(url: str, dialect: str, script: str, deadlines: Deadlines, missing: str) -> None:
    with pytest.raises(ModelError, match=missing) as error:
        ask(a_gateway(url, dialect, deadlines=deadlines), f"[scripted:{script}]")
    assert error.value.kind is Failure.TIMEOUT
    assert error.value.latency_s < 20


def test_the_callers_deadline_counts_too(url: str) -> None:
    with pytest.raises(ModelError, match="the end in time") as error:
        ask(a_gateway(url), "[scripted:hang]", deadline_s=0.2)
    assert error.value.kind is Failure.TIMEOUT


def test_the_deadline_of_connecting() -> None:
    # An address that swallows packets: on loopback, a listener whose queue is full.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fill = [socket.socket() for _ in range(4)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        gateway = a_gateway(f"http://127.0.0.1:{port}/v1", deadlines=Deadlines(connect_s=0.3))
        with pytest.raises(ModelError, match=r"a connection within 0.3 s") as error:
            ask(gateway, "hello")
        for each in fill:
            each.close()
    assert error.value.kind is Failure.TIMEOUT


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
@pytest.mark.parametrize("script", ["endless", "huge"])
def test_an_answer_without_end_is_left(url: str, dialect: str, script: str, *, stream: bool) -> None:
    with pytest.raises(ModelError) as error:
        ask(a_gateway(url, dialect, stream=stream, most_bytes=2**20), f"[scripted:{script}]")
    assert error.value.kind is Failure.TOO_LARGE
    assert "1048576 bytes" in error.value.detail


def test_nobody_there() -> None:
    with pytest.raises(ModelError) as error:
        ask(a_gateway("http://127.0.0.1:9/v1"), "hello")
    assert error.value.kind is Failure.CONNECTION


def test_a_wrong_key_is_told_with_hints_and_is_not_shown(url: str) -> None:
    wrong = Key("hs_a-wrong-key-that-is-quoted-back-to-us-0042")
    with pytest.raises(ModelError) as error:
        ask(a_gateway(url, key=wrong), "hello")
    assert error.value.kind is Failure.AUTH
    assert len(error.value.hints) == 3
    assert error.value.detail == "invalid key: [key]"
    assert wrong.reveal() not in repr(error.value) + str(error.value) + repr(a_gateway(url, key=wrong))


def test_a_key_in_a_file_may_be_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, right, former = tmp_path / "key", f"hs_{'r1ght' * 6}", f"hs_{'f0rm3r' * 5}"
    file.write_text(former)
    with scripted_process(tmp_path / "log", "--key", right) as url:
        gateway = a_gateway(url, key=KeyFile(file, KeyShape(least=20), "gateways.test"))

        def answered() -> str:
            return ask(gateway, "[scripted:right] greet").text

        with pytest.raises(ModelError, match=re.escape("invalid key: [key]")):
            answered()
        file.write_text(f"{right}\n")
        assert "hello" in answered()
        caplog.clear()
        for wrong in ("", "cut", former[:10]):  # as while somebody writes it
            file.write_text(wrong)
            assert "hello" in answered()
            assert "hello" in answered()
        file.unlink()
        assert "hello" in answered()
        said = [each.getMessage() for each in caplog.records if each.name == "worker.model.keys"]
        assert len(said) == 4, said
        assert all(line.endswith("the key that was there before is used") for line in said)
        assert all(key not in caplog.text for key in (right, former, former[:10]))


def test_what_is_refused_before_it_is_sent(url: str) -> None:
    before = seen(url)["requests"]
    for values, kind in (({"model": "other"}, Failure.NOT_FOUND), ({"temperature": 1.5}, Failure.BAD_REQUEST)):
        with pytest.raises(ModelError) as error:
            ask(a_gateway(url), a_call("[scripted:right]", **values))
        assert error.value.kind is kind
    assert seen(url)["requests"] == before
    assert ask(a_gateway(url, temperature_range=None), a_call("[scripted:right]", temperature=1.5)).text


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
def test_signs_of_life_are_no_part_of_an_answer(url: str, dialect: str, *, stream: bool) -> None:
    assert "after a while" in ask(a_gateway(url, dialect, stream=stream), "[scripted:keepalive]").text


def test_a_question_that_is_no_text_is_refused(url: str) -> None:
    with pytest.raises(ModelError, match="UTF-8") as error:
        ask(a_gateway(url), "lone \ud800 surrogate")
    assert error.value.kind is Failure.BAD_REQUEST


@pytest.mark.parametrize(("dialect", "stream"), FORMS)
def test_calls_one_after_the_other_share_a_connection(url: str, dialect: str, *, stream: bool) -> None:
    gateway = a_gateway(url, dialect, stream=stream)

    async def run() -> None:
        async with GatewayClient() as client:
            for number in range(5):
                call = a_call("[scripted:right]")
                await client.ask(gateway, call, request_id=str(number), deadline_s=30)

    asyncio.run(run())
    assert len(set(seen(url)["recent_peers"][-5:])) == 1


def test_many_at_once_share_a_client_and_leave_nothing(url: str) -> None:
    kinds = ["right", "drip", "hang", "endless", "cut", "error-500", "refusal", "wrong-then-right"]
    gateways = [a_gateway(url, dialect, most_bytes=10**6) for dialect in DIALECTS]

    async def run() -> None:
        async with GatewayClient() as client:
            asked = [
                client.ask(
                    gateways[number % 2],
                    a_call(f"[scripted:{kinds[number % 8]}] {number}"),
                    request_id=str(number),
                    deadline_s=1 if number % 8 in (1, 2) else 30,
                )
                for number in range(200)
            ]
            found = await asyncio.gather(*asked, return_exceptions=True)
            for number, each in enumerate(found):
                kind = kinds[number % 8]
                if kind in ("right", "refusal", "wrong-then-right"):
                    assert isinstance(each, ModelAnswer)
                    assert each.request_id == str(number)
                    assert each.text.startswith("I cannot" if kind == "refusal" else "Here it is")
                else:
                    assert isinstance(each, ModelError)
            # Cancelling a call ends its connection.
            task = asyncio.create_task(ask_async(gateways[0], "[scripted:hang]"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert [task for task in others if not task.done()] == []

    asyncio.run(run())
    eventually(lambda: seen(url)["in_flight"] == 0, "no call is open at the gateway")
