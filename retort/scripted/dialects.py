"""The server's side of the two dialects: reading requests strictly, and writing answers, streams and errors."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retort.scripted.script import Said

#: Every answer's model begins with this, so that whoever reads a stored answer knows what made it.
VERSION = "scripted/"

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class BadRequest(ValueError):
    """The request is not what the dialect says; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as both dialects mean it."""

    model: str
    said: tuple[Said, ...]
    system: str = ""
    stream: bool = False
    wants_usage: bool = True
    max_tokens: int = 4096


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer, as both dialects mean it. `finish` None: the reason is left out."""

    id: str
    model: str
    text: str
    finish: str | None
    tokens: tuple[int, int] | None  # asked and answered
    created: int = field(default_factory=lambda: int(time.time()))


def count_tokens(text: str) -> int:
    """Four bytes each, at least one."""
    return max(1, len(text.encode()) // 4)


def _messages(body: Mapping[str, Any], roles: set[str]) -> list[Said]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: must be a list with at least one message")
    said = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in roles:
            raise BadRequest(f"messages.{number}.role: must be one of {', '.join(sorted(roles))}")
        said.append(Said(message["role"], _content(message.get("content"), f"messages.{number}.content")))
    return said


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content)
    raise BadRequest(f"{where}: must be text or a list of text parts")


def _common(body: Mapping[str, Any], allowed: set[str], most_temperature: float) -> None:
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise BadRequest("model: is missing")
    if unknown := sorted(set(body) - allowed):
        raise BadRequest(f"{unknown[0]}: unknown field")
    for name, most in (("temperature", most_temperature), ("top_p", 1)):
        value = body.get(name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value <= most):
            raise BadRequest(f"{name}: must be from 0 to {most:g}")
    if not isinstance(body.get("stream", False), bool):
        raise BadRequest("stream: must be true or false")


def _whole(body: Mapping[str, Any], name: str) -> int:
    value = body[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadRequest(f"{name}: must be a whole number above 0")
    return value


class OpenAI:
    """Chat completions."""

    FIELDS = frozenset(
        {
            "model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stream",
            "stream_options", "stop", "n", "seed", "user", "response_format", "presence_penalty",
            "frequency_penalty",
        },
    )  # fmt: skip

    def read(self, body: Mapping[str, Any]) -> Asked:
        """What is asked.

        Raises:
            BadRequest
        """
        _common(body, set(self.FIELDS), 2)
        said = _messages(body, {"system", "developer", "user", "assistant"})
        most = next((_whole(body, n) for n in ("max_completion_tokens", "max_tokens") if n in body), 4096)
        options = body.get("stream_options") or {}
        return Asked(
            model=body["model"],
            said=tuple(each for each in said if each.role in ("user", "assistant")),
            system="\n".join(each.text for each in said if each.role in ("system", "developer")),
            stream=body.get("stream", False),
            wants_usage=not body.get("stream") or bool(options.get("include_usage")),
            max_tokens=most,
        )

    def error(self, status: int, message: str, kind: str, code: str) -> dict[str, Any]:
        """An error document."""
        kind = kind or _TYPES.get(status, "server_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": code or None}}

    def whole(self, spoken: Spoken) -> dict[str, Any]:
        """An answer at once."""
        refused = spoken.finish == "refusal"
        message = {
            "role": "assistant",
            "content": None if refused else spoken.text,
            "refusal": spoken.text if refused else None,
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish(spoken)}
        return {
            **self._head(spoken, "chat.completion"),
            "choices": [choice],
            **({} if spoken.tokens is None else {"usage": self._usage(spoken.tokens)}),
        }

    def stream(self, spoken: Spoken, pieces: Sequence[str]) -> Iterator[bytes]:
        """An answer piece by piece."""
        key = "refusal" if spoken.finish == "refusal" else "content"
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({key: each} for each in pieces)]
        for delta in deltas:
            yield self._chunk(spoken, [{"index": 0, "delta": delta, "finish_reason": None}])
        if spoken.finish is not None:
            yield self._chunk(spoken, [{"index": 0, "delta": {}, "finish_reason": self._finish(spoken)}])
        if spoken.tokens is not None:
            yield self._chunk(spoken, [], usage=self._usage(spoken.tokens))
        yield b"data: [DONE]\n\n"

    def late_error(self) -> bytes:
        """An error in the middle of a stream."""
        return _data(self.error(502, "the provider failed", "server_error", "502"))

    def _head(self, spoken: Spoken, kind: str) -> dict[str, Any]:
        return {"id": spoken.id, "object": kind, "created": spoken.created, "model": spoken.model}

    def _chunk(self, spoken: Spoken, choices: list[Any], **more: Any) -> bytes:
        return _data({**self._head(spoken, "chat.completion.chunk"), "choices": choices, **more})

    def _finish(self, spoken: Spoken) -> str | None:
        return None if spoken.finish is None else {"length": "length"}.get(spoken.finish, "stop")

    def _usage(self, tokens: tuple[int, int]) -> dict[str, Any]:
        asked, answered = tokens
        return {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


class Anthropic:
    """Messages."""

    FIELDS = frozenset(
        {
            "model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k", "stream",
            "stop_sequences", "metadata",
        },
    )  # fmt: skip

    def read(self, body: Mapping[str, Any]) -> Asked:
        """What is asked.

        Raises:
            BadRequest
        """
        _common(body, set(self.FIELDS), 1)
        if "max_tokens" not in body:
            raise BadRequest("max_tokens: Field required")
        return Asked(
            model=body["model"],
            said=tuple(_messages(body, {"user", "assistant"})),
            system=_content(body.get("system", ""), "system"),
            stream=body.get("stream", False),
            max_tokens=_whole(body, "max_tokens"),
        )

    def error(self, status: int, message: str, kind: str, code: str) -> dict[str, Any]:
        """An error document."""
        told: dict[str, Any] = {"type": kind or _TYPES.get(status, "api_error"), "message": message}
        if code:
            told["details"] = {"error_code": code}
        return {"type": "error", "error": told, "request_id": "req_scripted"}

    def whole(self, spoken: Spoken) -> dict[str, Any]:
        """An answer at once."""
        return {
            **self._head(spoken),
            "content": [{"type": "text", "text": spoken.text}],
            "stop_reason": self._finish(spoken),
            **({} if spoken.tokens is None else {"usage": self._usage(*spoken.tokens)}),
        }

    def stream(self, spoken: Spoken, pieces: Sequence[str]) -> Iterator[bytes]:
        """An answer piece by piece."""
        asked, answered = spoken.tokens or (0, 0)
        begun = {**self._head(spoken), "content": [], "stop_reason": None, "stop_sequence": None}
        if spoken.tokens is not None:
            begun["usage"] = self._usage(asked, 1)
        yield self._event("message_start", message=begun)
        yield self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield self._event("ping")
        for piece in pieces:
            delta = {"type": "text_delta", "text": piece}
            yield self._event("content_block_delta", index=0, delta=delta)
        yield self._event("content_block_stop", index=0)
        ending: dict[str, Any] = {"delta": {"stop_reason": self._finish(spoken), "stop_sequence": None}}
        if spoken.tokens is not None:
            ending["usage"] = {"output_tokens": answered}
        yield self._event("message_delta", **ending)
        yield self._event("message_stop")

    def late_error(self) -> bytes:
        """An error in the middle of a stream."""
        error = self.error(529, "Overloaded", "overloaded_error", "")
        return b"event: error\n" + _data(error)

    def _head(self, spoken: Spoken) -> dict[str, Any]:
        return {"id": spoken.id, "type": "message", "role": "assistant", "model": spoken.model}

    def _event(self, name: str, **values: Any) -> bytes:
        return f"event: {name}\n".encode() + _data({"type": name, **values})

    def _finish(self, spoken: Spoken) -> str | None:
        names = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}
        return None if spoken.finish is None else names[spoken.finish]

    def _usage(self, asked: int, answered: int) -> dict[str, int]:
        return {
            "input_tokens": asked,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": answered,
        }


def _data(value: object) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
