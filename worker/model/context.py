"""How long a text is for a model, whether it fits, and how to cut one that does not.

Nobody but the model's vendor can count its tokens; four bytes a token is the estimate, on which reservations
stand until the gateway says what was used.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from domain.catalogue import Model
from worker.model.types import Message

#: Bytes of UTF-8 that make a token, and tokens that a message costs besides its text.
BYTES_PER_TOKEN = 4
PER_MESSAGE = 4

#: Chunks by default, in tokens, and how far before its limit a chunk may end at a better place.
CHUNK_TOKENS = 180_000
OVERLAP_TOKENS = 2_000
CHARS_PER_TOKEN = 4
LOOK_BACK_CHARS = 1_000

#: Places to end a chunk, the best first: after a paragraph, a sentence, a line, a word.
_ENDS = tuple(map(re.compile, (r"\n\s*\n", r"[.!?]\n", r"[.!?]\s", r"\n", r"\s")))


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has; never 0 for a text that is not empty."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def input_tokens(messages: Iterable[Message], system: str | None = None) -> int:
    """About how many tokens a conversation has."""
    texts = [message.content for message in messages] + ([system] if system else [])
    return sum(estimate_tokens(text) + PER_MESSAGE for text in texts)


def room_for(model: Model, tokens: int, max_tokens: int) -> str | None:
    """Why `tokens` of question and `max_tokens` of answer do not fit a model; None if they do."""
    if model.context_tokens is not None and tokens + max_tokens > model.context_tokens:
        return (
            f"about {tokens:,} tokens of question and {max_tokens:,} of answer do not fit its context of "
            f"{model.context_tokens:,}"
        )
    return None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text: characters `start` to `end` of it, the `number`th of `of`, counted from 1."""

    text: str
    start: int
    end: int
    number: int
    of: int

    @property
    def system(self) -> str:
        """What to tell the model about it."""
        return f"Processing chunk {self.number} of {self.of}. Maintain context."


def chunks(
    text: str,
    *,
    most_chars: int = CHUNK_TOKENS * CHARS_PER_TOKEN,
    overlap_chars: int = OVERLAP_TOKENS * CHARS_PER_TOKEN,
    look_back_chars: int = LOOK_BACK_CHARS,
) -> tuple[Chunk, ...]:
    """Cut a text into overlapping pieces, none longer than `most_chars`.

    A piece ends after a paragraph or a sentence if one ends within `look_back_chars` before the limit, else
    after a line or a word, else at the limit. The next begins up to `overlap_chars` before that end, where a
    word begins. Without overlap the pieces put together are the text.

    Raises:
        ValueError: the overlap leaves no room to get on.
    """
    if most_chars < 1 or not 0 <= overlap_chars < most_chars:
        raise ValueError("a chunk needs at least one character, and an overlap that is shorter than itself")
    spans = list(_spans(text, most_chars, overlap_chars, look_back_chars))
    return tuple(
        Chunk(text[start:end], start, end, number, len(spans)) for number, (start, end) in enumerate(spans, 1)
    )


def _spans(text: str, most: int, overlap: int, look_back: int) -> Iterator[tuple[int, int]]:
    start = 0
    while len(text) - start > most:
        # An end within the overlap would not get on.
        end = _end(text, max(start + overlap + 1, start + most - look_back), start + most)
        yield start, end
        start = _start(text, end - overlap, end) if overlap else end
    if text:
        yield start, len(text)


def _end(text: str, least: int, most: int) -> int:
    """The best end from `least` to `most`, both allowed: the last of the best kind."""
    for kind in _ENDS:
        # A mark of two characters that begins just before `least` may end in the range.
        ends = [found.end() for found in kind.finditer(text, max(0, least - 2), most) if found.end() >= least]
        if ends:
            return ends[-1]
    return most


def _start(text: str, least: int, most: int) -> int:
    """The first beginning of a word from `least` on, before `most`; `least` where there is none."""
    if text[least - 1].isspace():
        return least
    found = re.compile(r"\s+").search(text, least, most)
    return found.end() if found and found.end() < most else least
