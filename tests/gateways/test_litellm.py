"""The client through a real LiteLLM proxy in front of a model server that others wrote.

What a proxy passes on is not what its provider said: another name for Retry-After, other statuses, codes as
text. Not among the usual tests, because the proxy takes long to install and to start: `make gateways`.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.models import a_call, a_gateway, ask
from tests.others import aimock, litellm
from worker.model.gateways import Gateway, Served
from worker.model.keys import Key
from worker.model.types import Failure, Finish, ModelError

UPSTREAM_KEY = Key("sk-upstream-0123456789abcdefghij")
PROXY_KEY = Key("sk-proxy-0123456789abcdefghijklm")
MODELS = {"openai": "gpt-4.1", "anthropic": "claude-sonnet-4-5"}


def _fixtures() -> list[dict[str, Any]]:
    def error(user: str, status: int, kind: str, message: str, **response: Any) -> dict[str, Any]:
        return {
            "match": {"userMessage": user},
            "response": {"error": {"message": message, "type": kind}, "status": status, **response},
        }

    return [
        {
            "match": {"userMessage": "say hello"},
            "response": {
                "content": "hello",
                "usage": {
                    "prompt_tokens": 12,
                    "completion_tokens": 3,
                    "input_tokens": 12,
                    "output_tokens": 3,
                },
            },
        },
        {"match": {"userMessage": "be long"}, "response": {"content": "cut o", "finishReason": "length"}},
        error("wait", 429, "rate_limit_error", "Rate limit reached", retryAfter=7),
        error("be overloaded", 529, "overloaded_error", "Overloaded"),
        error("break", 500, "server_error", "The server had an error"),
        error(
            "read too much", 400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"
        ),
    ]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy's address."""
    folder = tmp_path_factory.mktemp("litellm")
    with (
        aimock(folder, _fixtures(), UPSTREAM_KEY) as upstream,
        litellm(folder, upstream, PROXY_KEY, UPSTREAM_KEY) as base,
    ):
        yield base


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest) -> str:
    """Which provider stands behind the proxy."""
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["stream", "whole"])
def gateway(url: str, provider: str, request: pytest.FixtureRequest) -> Gateway:
    """The proxy as a gateway that speaks `openai`."""
    name = MODELS[provider]
    return a_gateway(f"{url}/v1", key=PROXY_KEY, models={name: Served(name, name)}, stream=request.param)


def _ask(gateway: Gateway, task: str) -> Any:
    return ask(gateway, a_call(task, model=next(iter(gateway.models))))


def test_an_answer(gateway: Gateway, provider: str) -> None:
    answer = _ask(gateway, "say hello")
    assert (answer.text, answer.finish) == ("hello", Finish.STOP)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.estimated) == (12, 3, False)


def test_a_cut_answer(gateway: Gateway) -> None:
    assert _ask(gateway, "be long").finish is Finish.LENGTH


def test_the_providers_retry_after_is_found_under_its_other_name(gateway: Gateway) -> None:
    with pytest.raises(ModelError) as error:
        _ask(gateway, "wait")
    assert error.value.kind is Failure.RATE_LIMITED
    assert error.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("be overloaded", Failure.OVERLOADED),
        ("break", Failure.SERVER),
        ("read too much", Failure.CONTEXT),
    ],
)
def test_failures(gateway: Gateway, task: str, kind: Failure) -> None:
    with pytest.raises(ModelError) as error:
        _ask(gateway, task)
    assert error.value.kind is kind, str(error.value)


def test_a_wrong_key_and_an_unknown_model(url: str) -> None:
    cases = (
        # Without a database of keys it cannot say more than that the request is wrong.
        (Key("sk-wrong-0123456789abcdefghijkl"), "gpt-4.1", Failure.BAD_REQUEST),
        (PROXY_KEY, "no-such-model", Failure.NOT_FOUND),
    )
    for key, name, kind in cases:
        gateway = a_gateway(f"{url}/v1", key=key, models={name: Served(name, name)})
        with pytest.raises(ModelError) as error:
            _ask(gateway, "say hello")
        assert error.value.kind is kind, str(error.value)
        assert key.reveal() not in str(error.value)


def test_its_own_anthropic_endpoint(url: str) -> None:
    name = MODELS["anthropic"]
    gateway = a_gateway(url, "anthropic", key=PROXY_KEY, models={name: Served(name, name)})
    assert _ask(gateway, "say hello").text == "hello"
    with pytest.raises(ModelError) as error:
        _ask(gateway, "wait")
    assert error.value.kind is Failure.RATE_LIMITED
