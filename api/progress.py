"""What has happened to a job so far, as a list of events that only ever grows at its end.

The list is made from the job's rows alone, so whoever asks again, later or elsewhere, gets the same events in
the same order, and a place in it can be told by a number. Between two of them a program's output is told as it
comes: a place there is how many bytes of each stream were told before. Both together are an event's id.

>>> Place.parse("2.10.0")
Place(step=2, stdout=10, stderr=0)
>>> str(Place(step=3))
'3.0.0'
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from domain.states import FINAL_STATES, State

Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

#: Bytes of output in one event.
MOST_BYTES = 32 * 1024

_PLACE = re.compile(r"([0-9]{1,6})\.([0-9]{1,15})\.([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Place:
    """How far somebody has read: the next step, and how much of the output before it."""

    step: int = 0
    stdout: int = 0
    stderr: int = 0

    def __str__(self) -> str:
        return f"{self.step}.{self.stdout}.{self.stderr}"

    @classmethod
    def parse(cls, text: str) -> "Place":
        """The inverse of `str`.

        Raises:
            ValueError: not such a place.
        """
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError(text)
        return cls(*(int(part) for part in found.groups()))

    def told(self, stream: Stream) -> int:
        """Bytes of a stream that were told."""
        return self.stdout if stream == "stdout" else self.stderr

    def after(self, stream: Stream, end: int) -> "Place":
        """The place once a stream was told up to a byte."""
        return replace(self, stdout=end) if stream == "stdout" else replace(self, stderr=end)


@dataclass(frozen=True, slots=True)
class Step:
    """One event; of an attempt also its number, because its output comes before it."""

    event: str
    data: dict[str, Any]
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that ended: itself in short form, how many files it left, and those that are still kept."""

    short: dict[str, Any]
    left: int = 0
    artifacts: tuple[dict[str, Any], ...] = ()

    @property
    def number(self) -> int:
        """Which it is, from 1."""
        return int(self.short["number"])


def steps_of(job: Any, attempts: list[Ended]) -> list[Step | None]:
    """The events of a job as it stands, but for output; `attempts` in order.

    None stands where an event was that cannot be told any more: its artifact is no longer kept. So the places
    of all others stay what they were.
    """
    steps: list[Step | None] = [Step("state", {"state": State.QUEUED, "at": job.created_at})]
    if job.started_at is not None:
        first = State.GENERATING if job.task is not None else State.RUNNING
        steps.append(Step("state", {"state": first, "at": job.started_at}))
    for attempt in attempts:
        steps.append(Step("attempt", attempt.short, attempt.number))
        steps += _artifacts_of(attempt)
    if job.state in FINAL_STATES:
        steps.append(Step("state", {"state": job.state, "at": job.finished_at}))
        steps.append(Step("done", {"state": job.state, "verdict": job.verdict, "reason": job.reason}))
    return steps


def _artifacts_of(attempt: Ended) -> list[Step | None]:
    told = [Step("artifact", {"attempt": attempt.number, **kept}) for kept in attempt.artifacts]
    # Retention takes them in the order in which they are told, so what is gone came first.
    return [None] * (attempt.left - len(told)) + told


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a stream, and where they begin in it."""

    at: int
    data: bytes

    @property
    def end(self) -> int:
        """Where they end."""
        return self.at + len(self.data)

    def since(self, told: int) -> "Part":
        """What of them was not told."""
        return self if told <= self.at else Part(told, self.data[told - self.at :])


def kept_parts(kept: bytes, written: int, head: int | None, told: int) -> Iterator[Part]:
    """What is kept of a stream from byte `told` on: its head, and its tail where something between is not kept.

    >>> list(kept_parts(b"abcyz", 26, 3, 1))
    [Part(at=1, data=b'bc'), Part(at=24, data=b'yz')]
    """
    cut = len(kept) if head is None else head
    for part in (Part(0, kept[:cut]), Part(written - (len(kept) - cut), kept[cut:])):
        left = part.since(told)
        while left.data:
            yield Part(left.at, left.data[:MOST_BYTES])
            left = left.since(left.at + MOST_BYTES)


def text_of(part: Part, *, more: bool) -> tuple[dict[str, Any], int]:
    """A part as an event tells it, and where what was told of it ends.

    A character that is cut at the end is left for the next part, if more is to come.
    """
    data = part.data
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if more and error.reason == "unexpected end of data" and len(data) - error.start <= 3:
            data = data[: error.start]
            text = data.decode()
        else:
            encoded = base64.b64encode(data).decode()
            return {"at": part.at, "text": encoded, "encoding": "base64"}, part.end
    return {"at": part.at, "text": text, "encoding": "utf-8"}, part.at + len(data)
