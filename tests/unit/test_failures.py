"""What gateways' errors mean. The documents are as the gateways write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model import failures
from worker.model.types import FATAL, RETRYABLE, Failure

LITELLM = "\n\nLiteLLM: model group 'gpt-4.1' failed with the error above. No fallback was attempted."


def openai(message: str, kind: str | None = None, code: object = None) -> bytes:
    """An error document of chat completions."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def anthropic(message: str, kind: str, **details: str) -> bytes:
    """An error document of messages."""
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, openai("Invalid value for temperature", "invalid_request_error"), Failure.BAD_REQUEST),
        (
            400,
            openai("maximum context length is 8192 tokens", None, "context_length_exceeded"),
            Failure.CONTEXT,
        ),
        (
            400,
            anthropic("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"),
            Failure.CONTEXT,
        ),
        (400, openai("Invalid model name passed in model=x. Call `/v1/models`"), Failure.NOT_FOUND),
        (401, openai("Incorrect API key provided", "invalid_request_error", "invalid_api_key"), Failure.AUTH),
        (401, anthropic("invalid x-api-key", "authentication_error"), Failure.AUTH),
        (402, openai("This request requires more credits", None, 402), Failure.QUOTA),
        (403, anthropic("Your API key does not have permission", "permission_error"), Failure.AUTH),
        (
            404,
            openai("The model `x` does not exist", "invalid_request_error", "model_not_found"),
            Failure.NOT_FOUND,
        ),
        (404, anthropic("model: x", "not_found_error"), Failure.NOT_FOUND),
        (408, openai("Request timed out"), Failure.TIMEOUT),
        (409, anthropic("conflict", "conflict_error"), Failure.SERVER),
        (413, anthropic("Request exceeds the maximum size", "request_too_large"), Failure.CONTEXT),
        (422, openai("Field required"), Failure.BAD_REQUEST),
        (
            429,
            openai("Rate limit reached for gpt-4.1", "requests", "rate_limit_exceeded"),
            Failure.RATE_LIMITED,
        ),
        (
            429,
            openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
            Failure.QUOTA,
        ),
        (429, anthropic("limit", "rate_limit_error", error_code="enforced_spend_limit_reached"), Failure.QUOTA),
        (429, anthropic("Your credit balance is too low", "invalid_request_error"), Failure.QUOTA),
        (500, anthropic("Internal server error", "api_error"), Failure.SERVER),
        (500, anthropic("Overloaded", "overloaded_error"), Failure.OVERLOADED),
        (502, b"<html>Bad gateway</html>", Failure.SERVER),
        (503, b"", Failure.OVERLOADED),
        (504, anthropic("timed out", "timeout_error"), Failure.TIMEOUT),
        (524, b"error code: 524", Failure.TIMEOUT),
        (529, anthropic("Overloaded", "overloaded_error"), Failure.OVERLOADED),
        # Through LiteLLM: codes are text, 529 of one provider becomes 500.
        (
            429,
            openai(f"litellm.RateLimitError: Rate limit{LITELLM}", "throttling_error", "429"),
            Failure.RATE_LIMITED,
        ),
        (
            500,
            openai(
                'litellm.InternalServerError: AnthropicError - {"error":{"type":"overloaded_error"}}' + LITELLM,
                "internal_server_error",
                "500",
            ),
            Failure.OVERLOADED,
        ),
        (
            400,
            openai(
                f"litellm.ContextWindowExceededError: prompt is too long: 210000 tokens{LITELLM}", None, "400"
            ),
            Failure.CONTEXT,
        ),
        # In an answer that was to be good.
        (200, openai("Provider returned error", None, 502), Failure.SERVER),
        (200, openai("Rate limited upstream", None, 429), Failure.RATE_LIMITED),
        (200, openai("No credits", None, "402"), Failure.QUOTA),
        (200, anthropic("Overloaded", "overloaded_error"), Failure.OVERLOADED),
        (200, anthropic("bad", "invalid_request_error"), Failure.BAD_REQUEST),
        (200, b'{"error": "something broke"}', Failure.SERVER),
    ],
)
def test_kinds(status: int, body: bytes, kind: Failure) -> None:
    found = failures.of_body(status, {}, body, now=0)
    assert found.kind is kind
    assert found.detail
    assert bool(found.hints) is (kind is Failure.AUTH)


def test_the_same_words_mean_a_full_minute_where_a_wait_is_named() -> None:
    body = openai("You exceeded your current quota, please check your plan and billing details.")
    assert failures.of_body(429, {}, body, now=0).kind is Failure.QUOTA
    waits = failures.of_body(429, {"Retry-After": "13"}, body, now=0)
    assert (waits.kind, waits.retry_after_s) == (Failure.RATE_LIMITED, 13.0)


def test_a_proxys_429_as_it_was_recorded() -> None:
    headers = {
        "llm_provider-retry-after": "7",
        "llm_provider-x-ratelimit-remaining-requests": "0",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-remaining-tokens": "0",
        "x-litellm-response-cost": "0",
        "x-litellm-timeout": "6000.0",
    }
    message = f"litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached{LITELLM}"
    found = failures.of_body(429, headers, openai(message, "throttling_error", "429"), now=0)
    assert (found.kind, found.retry_after_s, found.status) == (Failure.RATE_LIMITED, 7.0, 429)


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("False", False), ("perhaps", None), (None, None)])
def test_what_the_gateway_says_of_trying_again(said: str | None, meant: bool | None) -> None:
    headers = {} if said is None else {"X-Should-Retry": said}
    assert failures.of_body(500, headers, b"{}", now=0).should_retry is meant


def test_details_are_short_and_printable() -> None:
    found = failures.of_body(500, {}, openai("a\x1b[31mred\x00\n" + "b" * 10**6), now=0)
    assert found.detail.startswith("a[31mred b")
    assert len(found.detail) == failures.MOST_DETAIL


def test_a_key_at_the_cut_is_redacted_first() -> None:
    key = "hs_0123456789abcdef0123456789"
    message = "x" * (failures.MOST_DETAIL - 8) + key
    found = failures.of_body(400, {}, openai(message), now=0, redact=lambda text: text.replace(key, "[key]"))
    assert "hs_" not in found.detail


def test_no_kind_is_both_hopeless_and_worth_a_retry() -> None:
    assert not RETRYABLE & FATAL


@given(st.integers(400, 599), st.binary(max_size=200))
def test_any_body_means_something(status: int, body: bytes) -> None:
    found = failures.of_body(status, {}, body, now=0)
    assert found.detail
    assert len(found.detail) <= failures.MOST_DETAIL


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["message", "type", "code", "details"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.sampled_from([200, 400, 429, 500]),
    st.dictionaries(st.sampled_from(["error", "message", "detail"]), json_values),
)
def test_any_document_means_something(status: int, body: dict[str, object]) -> None:
    assert failures.classify(status, {}, body, now=0).detail
