"""Answers that are used again: what they are kept under, and how they are written down."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from worker.model.types import ModelAnswer
from worker.model.want import Want

_ANSWER = TypeAdapter(ModelAnswer)


def key_of(want: Want, candidates: Iterable[str], max_tokens: Iterable[int]) -> str:
    """The sha256, in hexadecimal, of everything that changes an answer.

    That is the caller, the question, the parameters, and who may answer with how many tokens at most.
    """
    told = {
        "caller": want.caller,
        "system": want.system,
        "messages": [asdict(message) for message in want.messages],
        "temperature": want.temperature,
        "top_p": want.top_p,
        "stop": want.stop,
        "candidates": list(candidates),
        "max_tokens": list(max_tokens),
    }
    text = json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write(answer: ModelAnswer) -> str:
    """An answer as JSON."""
    return _ANSWER.dump_json(answer).decode()


def read(entry: str) -> ModelAnswer | None:
    """What `write` wrote; None for what an older version of us wrote otherwise."""
    try:
        return _ANSWER.validate_json(entry)
    except ValidationError:
        return None
