"""Chat completions: POST {base}/chat/completions."""

from typing import Any

from worker.model.dialects.base import (
    Malformed,
    Reply,
    Reported,
    a_cost,
    a_version,
    an_object,
    parse_object,
    settings,
    tokens,
)
from worker.model.gateways import Gateway, Served
from worker.model.types import Finish, ModelCall, Usage

_STOPPED = frozenset({"stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"})
_REFUSED = frozenset({"content_filter", "refusal", "safety"})
_TOOLS = frozenset({"tool_calls", "function_call", "tool_use"})


class OpenAI:
    """The dialect of most gateways."""

    def path(self, base: str) -> str:
        """The URL below a base URL."""
        return f"{base}/chat/completions"

    def headers(self, key: str | None) -> dict[str, str]:
        """Headers that carry the key."""
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def body(self, gateway: Gateway, served: Served, call: ModelCall) -> dict[str, Any]:
        """The request; the system prompt is the first message."""
        system = [] if call.system is None else [{"role": "system", "content": call.system}]
        said = [{"role": message.role, "content": message.content} for message in call.messages]
        body = settings(gateway, served, call)
        body["messages"] = [*system, *said]
        body[gateway.max_tokens_field] = call.max_tokens
        if gateway.stream:
            body["stream_options"] = {"include_usage": True}
        if call.stop and "stop" not in served.drops:
            body["stop"] = list(call.stop)
        return body

    def reader(self) -> "Reader":
        """Reads one answer."""
        return Reader()


class Reader:
    """Reads chat.completion objects and streams of chat.completion.chunk."""

    def __init__(self) -> None:
        self.reply = Reply()

    def document(self, document: dict[str, Any]) -> None:
        """Read a whole answer. See `base.Reader`."""
        self._common(document)
        choices = document.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise Malformed("the answer has no choices")
        choice = choices[0]
        message = choice.get("message")
        if not isinstance(message, dict):
            raise Malformed("the answer's choice has no message")
        self._said(message)
        # No reason at all counts as cut off: whoever cannot say why it stopped may have stopped anywhere.
        self._finished(choice.get("finish_reason") or "length")
        self.reply.ended = True

    def event(self, name: str, data: str) -> None:
        """Read one event. See `base.Reader`."""
        if data.strip() == "[DONE]":
            self.reply.ended = True
            self.reply.finish = self.reply.finish or Finish.LENGTH
            return
        chunk = parse_object(data)
        if name == "error" and "error" not in chunk:
            raise Reported({"error": chunk})
        self._common(chunk)
        choices = chunk.get("choices")
        if choices is None:
            return  # some gateways send notes of their own
        if not isinstance(choices, list):
            raise Malformed("a chunk's choices are no list")
        for choice in choices:
            if not isinstance(choice, dict):
                raise Malformed("a chunk's choice is no object")
            if choice.get("index", 0) != 0:
                continue
            self._said(an_object(choice.get("delta")))
            if choice.get("finish_reason"):
                self._finished(choice["finish_reason"])

    def _common(self, document: dict[str, Any]) -> None:
        if document.get("error"):
            raise Reported(document)
        self.reply.version = a_version(document.get("model")) or self.reply.version
        counts = an_object(document.get("usage"))
        if counts:
            self.reply.usage = usage(counts) or self.reply.usage
            self.reply.cost = a_cost(counts.get("cost")) or self.reply.cost

    def _said(self, message: dict[str, Any]) -> None:
        content = message.get("content")
        if isinstance(content, str):
            self.reply.parts.append(content)
        elif isinstance(content, list):
            texts = (an_object(part).get("text") for part in content)
            self.reply.parts += [text for text in texts if isinstance(text, str)]
        elif content is not None:
            raise Malformed("the content is neither text nor a list of parts")
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            self.reply.parts.append(refusal)
            self.reply.finish = Finish.REFUSAL

    def _finished(self, reason: object) -> None:
        word = reason.lower() if isinstance(reason, str) else ""
        if word == "error":
            raise Reported({"error": {"message": "the model's provider failed while it answered"}})
        if word in _TOOLS and not "".join(self.reply.parts).strip():
            raise Malformed("the model called a tool, though none was offered, and said nothing")
        if self.reply.finish is Finish.REFUSAL:
            return
        if word in _STOPPED or word in _TOOLS:
            self.reply.finish = Finish.STOP
        elif word in _REFUSED:
            self.reply.finish = Finish.REFUSAL
        else:
            self.reply.finish = Finish.LENGTH


def usage(counts: dict[str, Any]) -> Usage | None:
    """Token counts in either dialect's names; None where they are missing or cannot be true.

    `prompt_tokens` include cached ones, which are priced apart.
    """
    asked = tokens(counts, "prompt_tokens")
    written = tokens(counts, "completion_tokens", "output_tokens")
    details = an_object(counts.get("prompt_tokens_details")) or an_object(counts.get("input_tokens_details"))
    cached = tokens(details, "cached_tokens")
    if cached is None:
        cached = tokens(counts, "prompt_cache_hit_tokens", "cache_read_input_tokens") or 0
    stored = tokens(details, "cache_write_tokens", "cache_creation_tokens")
    if stored is None:
        stored = tokens(counts, "cache_creation_input_tokens") or 0
    fresh = tokens(counts, "input_tokens") if asked is None else max(0, asked - cached - stored)
    if fresh is None or written is None or not fresh + cached + stored:
        return None  # nobody asks a question of no tokens: the counts are fillers
    return Usage(fresh, written, cached, stored)
