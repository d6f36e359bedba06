"""What both dialects share: the reply they read into, and total parsing of what a stranger sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import orjson

from worker.model.gateways import Gateway, Served
from worker.model.types import Finish, ModelCall, Usage

#: Tokens of one call beyond which a count is not believed.
_MOST_TOKENS = 10**9

#: Characters kept of the name that a gateway gives its model.
_MOST_VERSION = 200


class Malformed(Exception):
    """The answer is not what the dialect says; the message names what is wrong, in our words."""


class Reported(Exception):
    """The gateway reports an error where an answer should be. `document` is what it sent."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__("the gateway reports an error")
        self.document = document


@dataclass(slots=True)
class Reply:
    """What was read so far. `ended`: the dialect's own sign of the end was seen."""

    parts: list[str] = field(default_factory=list)
    finish: Finish | None = None
    usage: Usage | None = None
    version: str = ""
    cost: str | None = None
    ended: bool = False

    @property
    def text(self) -> str:
        """The text so far. PostgreSQL keeps no NUL in text, and no program needs one."""
        return "".join(self.parts).replace("\x00", "\ufffd")


class Reader(Protocol):
    """Reads one answer, as a document or as a stream of events."""

    reply: Reply

    def document(self, document: dict[str, Any]) -> None:
        """Read a whole answer.

        Raises:
            Malformed, Reported
        """

    def event(self, name: str, data: str) -> None:
        """Read one server-sent event.

        Raises:
            Malformed, Reported
        """


class Dialect(Protocol):
    """How to ask, and how to read what comes back."""

    def path(self, base: str) -> str:
        """The URL below a base URL."""

    def headers(self, key: str | None) -> dict[str, str]:
        """Headers that carry the key."""

    def body(self, gateway: Gateway, served: Served, call: ModelCall) -> dict[str, Any]:
        """The request."""

    def reader(self) -> Reader:
        """Reads one answer."""


def parse_object(data: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Malformed: it is none, is nested too deeply, or is not UTF-8.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Malformed("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise Malformed("the answer is not a JSON object")
    return value


def an_object(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def a_version(value: object) -> str:
    """What the gateway calls the model that answered."""
    return "".join(c for c in value if c.isprintable())[:_MOST_VERSION] if isinstance(value, str) else ""


def a_cost(value: object) -> str | None:
    """The gateway's own figure in dollars, as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        cost = Decimal(str(value)[:64])
    except InvalidOperation:
        return None
    return format(cost, "f") if cost.is_finite() and 0 <= cost < 10**6 else None


def tokens(counts: Mapping[str, Any], *names: str) -> int | None:
    """The first of these counts that is there and can be believed."""
    for name in names:
        value = counts.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
            return value
    return None


def estimate(text: str) -> int:
    """Tokens of a text, roughly: four bytes each, at least one."""
    return max(1, len(text.encode("utf-8", "replace")) // 4)


def estimated_usage(call: ModelCall, text: str) -> Usage:
    """What a call used, where the gateway does not say."""
    asked = sum(estimate(message.content) for message in call.messages)
    asked += estimate(call.system) if call.system else 0
    return Usage(input_tokens=asked, output_tokens=estimate(text) if text else 0, estimated=True)


def settings(gateway: Gateway, served: Served, call: ModelCall) -> dict[str, Any]:
    """The fields that both dialects name alike, without those that the model refuses."""
    fields: dict[str, Any] = {"model": served.wire}
    if gateway.stream:
        fields["stream"] = True
    for name, value in (("temperature", call.temperature), ("top_p", call.top_p)):
        if value is not None and name not in served.drops:
            fields[name] = value
    return fields
