"""The client against a model server that others wrote, in both dialects."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.models import KEY, a_call, a_gateway, ask
from tests.others import aimock
from worker.model.gateways import Deadlines, Gateway
from worker.model.types import Failure, Finish, Message, ModelError

WRONG = "```python\nprint(np.pi)\n```"
FORMS = ("openai-stream", "openai", "anthropic-stream", "anthropic")
RIGHT = "```python\nimport numpy as np\nprint(np.pi)\n```"

TOKENS = {"prompt_tokens": 120, "completion_tokens": 34, "prompt_tokens_details": {"cached_tokens": 20}}
ANTHROPIC_TOKENS = {"input_tokens": 100, "output_tokens": 34, "cache_read_input_tokens": 20}


def _fixtures() -> list[dict[str, Any]]:
    def text(user: str, content: str, turn: int | None = None, **response: Any) -> dict[str, Any]:
        match: dict[str, Any] = {"userMessage": user}
        if turn is not None:
            match["turnIndex"] = turn
        return {"match": match, "response": {"content": content, **response}}

    def error(user: str, status: int, kind: str, message: str, **response: Any) -> dict[str, Any]:
        return {
            "match": {"userMessage": user},
            "response": {"error": {"message": message, "type": kind}, "status": status, **response},
        }

    # Its memory of which answer comes next is one for all who ask the same, so each form asks in its own words.
    limited = [
        error(f"come back later {form}.", 429, "rate_limit_error", "Rate limit reached", retryAfter=2)
        for form in FORMS
    ]
    for each in limited:
        each["match"]["sequenceIndex"] = 0
    slow, cut = text("take your time", "at last"), text("stop in the middle", "word " * 200)
    gone, broken = text("hang up", "never"), text("speak nonsense", "never")
    slow["chaos"] = {"latencyMs": 700}
    cut["truncateAfterChunks"], cut["latency"] = 5, 10
    gone["chaos"] = {"disconnectRate": 1}
    broken["chaos"] = {"malformedRate": 1}
    return [
        text("draw pi", WRONG, 0),
        text("NameError", RIGHT, 1),
        text("count tokens", "counted", usage={**TOKENS, **ANTHROPIC_TOKENS}),
        text("use no tokens", "uncounted words", usage={"input_tokens": 0, "output_tokens": 0}),
        text("be long", "```python\nprint(", finishReason="length"),
        *limited,
        text("come back later", "welcome back"),
        error("be overloaded", 529, "overloaded_error", "Overloaded"),
        error("break", 500, "server_error", "The server had an error"),
        error(
            "read too much", 400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"
        ),
        slow,
        cut,
        gone,
        broken,
        {
            "match": {"userMessage": "use a tool"},
            "response": {"toolCalls": [{"name": "run", "arguments": "{}"}]},
        },
        {**text("cost something", "paid", usage={**TOKENS, "cost": 0.00125}), "openRouterProcessing": True},
    ]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """aimock with our fixtures."""
    with aimock(tmp_path_factory.mktemp("aimock"), _fixtures(), KEY) as base:
        yield base


@pytest.fixture(
    params=FORMS,
)
def gateway(url: str, request: pytest.FixtureRequest) -> Gateway:
    """It as a gateway, in each form."""
    dialect, _, stream = request.param.partition("-")
    base = f"{url}/v1" if dialect == "openai" else url
    return a_gateway(base, dialect, stream=bool(stream))


def _fails(gateway: Gateway, task: str, **values: Any) -> ModelError:
    with pytest.raises(ModelError) as error:
        ask(gateway, a_call(task, **values))
    return error.value


def test_a_conversation_of_two_turns(gateway: Gateway) -> None:
    task = Message("user", "Please draw pi")
    first = ask(gateway, a_call("", messages=(task,), system="You write programs."))
    again = (task, Message("assistant", first.text), Message("user", "NameError: name 'np' is not defined"))
    assert (first.text, first.finish) == (WRONG, Finish.STOP)
    assert ask(gateway, a_call("", messages=again)).text == RIGHT
    assert not first.scripted


def test_counted_tokens(gateway: Gateway) -> None:
    usage = ask(gateway, "count tokens").usage
    asked = 120 if gateway.dialect == "openai" else 100
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (asked, 34, False)


def test_counts_of_nothing_are_not_believed(gateway: Gateway) -> None:
    usage = ask(gateway, "use no tokens").usage
    assert usage.total > 0
    assert usage.estimated or gateway.dialect == "openai"  # there aimock counts by itself


def test_a_cut_answer(gateway: Gateway) -> None:
    answer = ask(gateway, "be long")
    assert (answer.text, answer.finish) == ("```python\nprint(", Finish.LENGTH)


def test_a_full_minute_and_the_next(gateway: Gateway) -> None:
    task = f"come back later {gateway.dialect}{'-stream' * gateway.stream}."
    failed = _fails(gateway, task)
    assert (failed.kind, failed.status, failed.retry_after_s) == (Failure.RATE_LIMITED, 429, 2.0)
    assert ask(gateway, task).text == "welcome back"


@pytest.mark.parametrize(
    ("task", "kind", "status"),
    [
        ("be overloaded", Failure.OVERLOADED, 529),
        ("break", Failure.SERVER, 500),
        ("read too much", Failure.CONTEXT, 400),
        ("hang up", Failure.CONNECTION, None),
        ("speak nonsense", Failure.BAD_RESPONSE, None),
        ("use a tool", Failure.BAD_RESPONSE, None),
    ],
)
def test_failures(gateway: Gateway, task: str, kind: Failure, status: int | None) -> None:
    failed = _fails(gateway, task)
    assert (failed.kind, failed.status) == (kind, status)


def test_a_stream_that_breaks_off(gateway: Gateway) -> None:
    if gateway.stream:
        failed = _fails(gateway, "stop in the middle")
        assert failed.kind is Failure.CONNECTION
        assert failed.usage is not None
    else:
        assert len(ask(gateway, "stop in the middle").text) == 1000


def test_a_slow_answer_within_and_beyond_its_deadline(url: str, gateway: Gateway) -> None:
    assert ask(gateway, "take your time").first_byte_s >= 0.7
    hasty = a_gateway(
        gateway.url, gateway.dialect, stream=gateway.stream, deadlines=Deadlines(first_byte_s=0.2)
    )
    assert _fails(hasty, "take your time").kind is Failure.TIMEOUT


def test_a_wrong_key(url: str) -> None:
    for dialect in ("openai", "anthropic"):
        failed = _fails(a_gateway(f"{url}/v1", dialect, key=None), "draw pi")
        assert (failed.kind, failed.status, len(failed.hints)) == (Failure.AUTH, 401, 3)


def test_an_aggregators_costs_and_keepalives(url: str) -> None:
    answer = ask(a_gateway(f"{url}/api/v1"), "cost something")
    assert (answer.text, answer.reported_cost_usd) == ("paid", "0.00125")
    assert (answer.usage.input_tokens, answer.usage.cache_read_tokens) == (100, 20)


def test_its_journal_has_our_request_id(url: str) -> None:
    answer = ask(a_gateway(f"{url}/v1"), "count tokens")
    headers = {"Authorization": f"Bearer {KEY.reveal()}"}
    assert answer.request_id in httpx.get(f"{url}/__aimock/journal", headers=headers).text
