"""Messages: POST {base}/v1/messages."""

from typing import Any

from worker.model.dialects.base import (
    Malformed,
    Reply,
    Reported,
    a_version,
    an_object,
    parse_object,
    settings,
    tokens,
)
from worker.model.gateways import Gateway, Served
from worker.model.types import Finish, ModelCall, Usage

#: The version of the protocol, not of a model.
VERSION = "2023-06-01"

_FINISHES = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "tool_use": Finish.STOP,
    "refusal": Finish.REFUSAL,
}


class Anthropic:
    """The dialect of Anthropic and of what imitates it."""

    def path(self, base: str) -> str:
        """The URL below a base URL, which may end in /v1 or not."""
        return f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages"

    def headers(self, key: str | None) -> dict[str, str]:
        """Headers that carry the key and the protocol's version."""
        given = {} if key is None else {"x-api-key": key}
        return {"anthropic-version": VERSION, **given}

    def body(self, gateway: Gateway, served: Served, call: ModelCall) -> dict[str, Any]:
        """The request; the system prompt has a field of its own."""
        body = settings(gateway, served, call)
        body["messages"] = [{"role": each.role, "content": each.content} for each in call.messages]
        body["max_tokens"] = call.max_tokens
        if call.system is not None:
            body["system"] = call.system
        if call.stop and "stop" not in served.drops:
            body["stop_sequences"] = list(call.stop)
        return body

    def reader(self) -> "Reader":
        """Reads one answer."""
        return Reader()


class Reader:
    """Reads message objects and streams of message events."""

    def __init__(self) -> None:
        self.reply = Reply()
        self._counts: dict[str, Any] = {}

    def document(self, document: dict[str, Any]) -> None:
        """Read a whole answer. See `base.Reader`."""
        if document.get("type") == "error" or document.get("error"):
            raise Reported(document)
        content = document.get("content")
        if not isinstance(content, list):
            raise Malformed("the answer has no content")
        for block in content:
            self._block(an_object(block))
        self._message(document)
        self._finished(document.get("stop_reason"))
        self.reply.ended = True

    def event(self, name: str, data: str) -> None:
        """Read one event. See `base.Reader`."""
        document = parse_object(data)
        kind = document.get("type", name)
        if kind == "error" or document.get("error"):
            raise Reported(document)
        if kind == "message_start":
            self._message(an_object(document.get("message")))
        elif kind == "content_block_start":
            self._block(an_object(document.get("content_block")))
        elif kind == "content_block_delta":
            text = an_object(document.get("delta")).get("text")
            if isinstance(text, str):
                self.reply.parts.append(text)
        elif kind == "message_delta":
            self._usage(an_object(document.get("usage")))
            reason = an_object(document.get("delta")).get("stop_reason")
            if reason is not None:
                self._finished(reason)
        elif kind == "message_stop":
            if self.reply.finish is None:
                self._finished(None)
            self.reply.ended = True

    def _message(self, message: dict[str, Any]) -> None:
        self.reply.version = a_version(message.get("model")) or self.reply.version
        self._usage(an_object(message.get("usage")))

    def _block(self, block: dict[str, Any]) -> None:
        if block.get("type") == "text":
            text = block.get("text")
            if not isinstance(text, str):
                raise Malformed("a text block has no text")
            self.reply.parts.append(text)

    def _usage(self, counts: dict[str, Any]) -> None:
        # The beginning of a stream tells of the question, its end of the answer.
        self._counts |= {name: value for name, value in counts.items() if value is not None}
        self.reply.usage = usage(self._counts)

    def _finished(self, reason: object) -> None:
        if reason == "tool_use" and not "".join(self.reply.parts).strip():
            raise Malformed("the model called a tool, though none was offered, and said nothing")
        # max_tokens, model_context_window_exceeded, pause_turn, none, and whatever is new: cut off.
        self.reply.finish = _FINISHES.get(reason, Finish.LENGTH) if isinstance(reason, str) else Finish.LENGTH


def usage(counts: dict[str, Any]) -> Usage | None:
    """Token counts in either dialect's names; None where they are missing or cannot be true."""
    fresh = tokens(counts, "input_tokens", "prompt_tokens")
    written = tokens(counts, "output_tokens", "completion_tokens")
    cached = tokens(counts, "cache_read_input_tokens") or 0
    stored = tokens(counts, "cache_creation_input_tokens") or 0
    if fresh is None or written is None or not fresh + cached + stored:
        return None
    return Usage(fresh, written, cached, stored)
