"""Both dialects: requests as they must be, and answers of every shape that gateways give them."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import MODEL, a_call, a_gateway
from worker.model.dialects.anthropic import Anthropic
from worker.model.dialects.base import Dialect, Malformed, Reply, Reported, a_cost, parse_object
from worker.model.dialects.openai import OpenAI, usage
from worker.model.gateways import Served
from worker.model.types import Finish, Message, Usage

GATEWAY = a_gateway("http://localhost/v1")
SERVED = Served(MODEL, "wire-name")


def completion(**choice: Any) -> dict[str, Any]:
    """A chat completion with one choice."""
    usual = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "model": "m-1", "choices": [{**usual, **choice}]}


def message(**values: Any) -> dict[str, Any]:
    """An Anthropic message."""
    usual = {
        "type": "message",
        "role": "assistant",
        "model": "c-1",
        "content": [{"type": "text", "text": "hi"}],
    }
    return {**usual, "stop_reason": "end_turn", **values}


def read(dialect: Dialect, document: dict[str, Any]) -> Reply:
    """What a document says."""
    reader = dialect.reader()
    reader.document(document)
    return reader.reply


def test_paths() -> None:
    assert OpenAI().path("http://h/v1") == "http://h/v1/chat/completions"
    assert Anthropic().path("http://h") == Anthropic().path("http://h/v1") == "http://h/v1/messages"


def test_the_system_prompt_is_where_each_dialect_has_it() -> None:
    call = a_call("do it", system="You code.")
    openai, anthropic = (each.body(GATEWAY, SERVED, call) for each in (OpenAI(), Anthropic()))
    assert openai["messages"][0] == {"role": "system", "content": "You code."}
    assert "system" not in openai
    assert anthropic["system"] == "You code."
    assert [each["role"] for each in anthropic["messages"]] == ["user"]
    for body in (openai, anthropic):
        assert not {"tools", "tool_choice"} & set(body)  # none is declared, so none may be named
        assert body["model"] == "wire-name"
        assert body["max_tokens"] == 4096


def test_what_a_model_refuses_is_left_out() -> None:
    served = Served(MODEL, "m", frozenset({"temperature", "top_p", "stop"}))
    call = a_call("x", temperature=0.5, top_p=0.5, stop=("END",))
    for dialect in (OpenAI(), Anthropic()):
        body = dialect.body(GATEWAY, served, call)
        assert not {"temperature", "top_p", "stop", "stop_sequences"} & set(body)
    newer = a_gateway("http://h", max_tokens_field="max_completion_tokens", stream=False)
    body = OpenAI().body(newer, SERVED, call)
    assert body["max_completion_tokens"] == 4096
    assert not {"max_tokens", "stream", "stream_options"} & set(body)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", Finish.STOP), ("STOP", Finish.STOP), ("end_turn", Finish.STOP), ("length", Finish.LENGTH),
        ("max_tokens", Finish.LENGTH), ("content_filter", Finish.REFUSAL), (None, Finish.LENGTH),
        (7, Finish.LENGTH), ("", Finish.LENGTH), ("whatever_is_new", Finish.LENGTH),
        ("tool_calls", Finish.STOP),
    ],
)  # fmt: skip
def test_reasons_of_chat_completions(reason: object, finish: Finish) -> None:
    assert read(OpenAI(), completion(finish_reason=reason)).finish is finish


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", Finish.STOP), ("stop_sequence", Finish.STOP), ("tool_use", Finish.STOP),
        ("max_tokens", Finish.LENGTH), ("model_context_window_exceeded", Finish.LENGTH),
        ("pause_turn", Finish.LENGTH), ("refusal", Finish.REFUSAL), (None, Finish.LENGTH), ({}, Finish.LENGTH),
    ],
)  # fmt: skip
def test_reasons_of_messages(reason: object, finish: Finish) -> None:
    assert read(Anthropic(), message(stop_reason=reason)).finish is finish


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(10, 5)),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(6, 5, 4),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
            },
            Usage(5, 5, 4, 1),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, Usage(2, 5, 8)),
        ({"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 7}, Usage(10, 5, 7)),
        ({"prompt_tokens": 10.0, "completion_tokens": 5}, Usage(10, 5)),
        ({"prompt_tokens": 3, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, Usage(0, 5, 8)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 10}, None),
        ({"prompt_tokens": True, "completion_tokens": 5}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 5}, None),
        ({"total_tokens": 15}, None),
    ],
)
def test_usage_in_both_shapes(counts: dict[str, Any], expected: Usage | None) -> None:
    assert usage(counts) == expected


def test_anthropic_counts_cached_tokens_apart() -> None:
    counts = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 7,
    }
    assert read(Anthropic(), message(usage=counts)).usage == Usage(10, 5, 7, 3)
    assert read(Anthropic(), message(usage={"prompt_tokens": 4, "completion_tokens": 2})).usage == Usage(4, 2)


def test_content_in_parts_and_refusals() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert read(OpenAI(), completion(message={"content": parts})).text == "ab"
    refused = read(OpenAI(), completion(message={"content": None, "refusal": "No."}))
    assert (refused.text, refused.finish) == ("No.", Finish.REFUSAL)
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    assert read(Anthropic(), message(content=blocks)).text == "ab"


def test_no_nul_reaches_the_database() -> None:
    assert read(OpenAI(), completion(message={"content": "a\x00b"})).text == "a\ufffdb"


@pytest.mark.parametrize(
    ("dialect", "document"),
    [
        (OpenAI(), {}),
        (OpenAI(), {"choices": []}),
        (OpenAI(), {"choices": ["x"]}),
        (OpenAI(), completion(message=None)),
        (OpenAI(), completion(message={"content": 7})),
        (OpenAI(), completion(message={"tool_calls": [{"function": {"arguments": "{not json"}}]},
                              finish_reason="tool_calls")),
        (Anthropic(), {}),
        (Anthropic(), message(content="hi")),
        (Anthropic(), message(content=[{"type": "text"}])),
        (Anthropic(), message(content=[{"type": "tool_use", "id": "1", "input": {}}], stop_reason="tool_use")),
    ],
)  # fmt: skip
def test_what_the_dialect_does_not_say_is_malformed(dialect: Dialect, document: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(dialect, document)


def test_errors_in_place_of_answers() -> None:
    for dialect, document in (
        (OpenAI(), {"error": {"message": "no", "code": 502}}),
        (OpenAI(), completion(finish_reason="error")),
        (Anthropic(), {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ):
        with pytest.raises(Reported):
            read(dialect, document)


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{", "<html>", '{"a": NaN}', '{"a": "\ud83d"}', '{"a":' * 10**5, "\x00"]
)
def test_what_is_not_an_object_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_object(text.encode("utf-8", "surrogatepass"))


def test_other_choices_of_a_stream_are_left_aside() -> None:
    reader = OpenAI().reader()
    for index, text in ((0, "a"), (1, "x"), (0, "b")):
        reader.event("", json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}))
    reader.event("", json.dumps({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}))
    reader.event("", "[DONE]")
    reply = reader.reply
    assert (reply.text, reply.finish, reply.usage, reply.ended) == ("ab", Finish.LENGTH, Usage(1, 2), True)


@pytest.mark.parametrize(
    ("value", "cost"),
    [
        (0.00125, "0.00125"),
        ("1e-5", "0.00001"),
        (0, "0"),
        ("-1", None),
        ("NaN", None),
        ("x", None),
        (True, None),
    ],
)
def test_reported_costs(value: object, cost: str | None) -> None:
    assert a_cost(value) == cost


KEYS = st.sampled_from(
    [
        "choices", "message", "delta", "content", "finish_reason", "usage", "error", "type", "text", "index",
        "model", "prompt_tokens", "input_tokens", "stop_reason", "content_block",
    ],
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@given(st.sampled_from([OpenAI(), Anthropic()]), st.dictionaries(KEYS, json_values), st.text(max_size=20))
def test_nothing_else_comes_of_any_answer(dialect: Dialect, document: dict[str, Any], name: str) -> None:
    for text in (None, json.dumps(document), name):
        reader = dialect.reader()
        with suppress(Malformed, Reported):
            if text is None:
                reader.document(document)
            else:
                reader.event(name, text)
        assert isinstance(reader.reply.text, str)


def test_a_conversation_keeps_its_order() -> None:
    said = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    for dialect in (OpenAI(), Anthropic()):
        body = dialect.body(GATEWAY, SERVED, a_call("", messages=said))
        assert [(each["role"], each["content"]) for each in body["messages"]] == [
            ("user", "a"),
            ("assistant", "b"),
            ("user", "c"),
        ]
