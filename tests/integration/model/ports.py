"""What tests of the port to the models say to it, and what the vendor behind it replies."""

from collections.abc import Callable
from typing import Any

from tests.integration.model.vendor import Arrival, Reply
from worker.model.port import Models, Want
from worker.model.types import Message

GPT, GEMINI, DEEPSEEK, SONNET = "gpt-4.1", "gemini-2.5-flash", "deepseek-v3.2", "claude-sonnet-4-20250514"

Open = Callable[..., Models]


def want(text: str = "a task", **values: Any) -> Want:
    usual: dict[str, Any] = {
        "caller": "anna",
        "model": GPT,
        "fallbacks": (),
        "max_tokens": 100,
        "deadline_s": 20.0,
    }
    return Want(**{"messages": (Message("user", text),), **usual, **values})


def in_turn(*replies: Reply) -> Callable[[int, Arrival], Reply]:
    """The replies one after the other, the last for ever."""
    return lambda number, _: replies[min(number, len(replies) - 1)]
