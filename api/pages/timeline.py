"""Where a job's time went: for each attempt waiting, model, sandbox start, run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.documents import Document

#: In the order in which they follow one another.
KINDS = ("waiting", "model", "sandbox start", "run")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an attempt: what was done, for how long. `at` and `width` in thousandths of the whole job."""

    kind: str
    seconds: float
    at: float
    width: float


@dataclass(frozen=True, slots=True)
class Line:
    """An attempt in the timeline."""

    number: int
    spans: list[Span]


def timeline(job: Document, attempts: Sequence[Document]) -> list[Line]:
    """The time of each attempt since the one before it ended.

    What models, sandbox and program took is measured by each; waiting is what is left, for queues and for us.
    """
    begin: datetime = job["created_at"]
    ends = [attempt["finished_at"] for attempt in attempts]
    whole = max([(end - begin).total_seconds() for end in ends], default=0.0) or 1.0
    found, before = [], begin
    for attempt, end in zip(attempts, ends, strict=True):
        parts = {
            "model": sum(call["latency_s"] or 0.0 for call in attempt["calls"]),
            "sandbox start": attempt["usage"]["sandbox_start_s"] or 0.0,
            "run": attempt["usage"]["wall_s"] or 0.0,
        }
        took = (end - before).total_seconds()
        parts["waiting"] = max(0.0, took - sum(parts.values()))
        found.append(Line(attempt["number"], _spans(parts, (before - begin).total_seconds(), whole)))
        before = max(before, end)
    return found


def _spans(parts: dict[str, Any], at: float, whole: float) -> list[Span]:
    spans = []
    for kind in KINDS:
        if parts[kind] <= 0:
            continue
        start = min(at / whole * 1000, 1000.0)
        width = max(2.0, parts[kind] / whole * 1000)
        spans.append(Span(kind, parts[kind], round(start, 1), round(min(width, 1002 - start), 1)))
        at += parts[kind]
    return spans
