"""W3C trace context: read from requests, kept with jobs, named in logs. Needs nothing but a string.

A job of a request without a `traceparent` is a trace of its own, whose id is the job's id.
"""

import re
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID
from zlib import crc32

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

#: The `traceparent` of what is being done here: our own span where spans are sent, else the client's.
CURRENT: ContextVar[str | None] = ContextVar("retort_traceparent", default=None)


@dataclass(frozen=True, slots=True)
class Parent:
    """A span elsewhere."""

    trace_id: int
    span_id: int
    sampled: bool

    @property
    def trace(self) -> str:
        """The trace's id as logs have it."""
        return f"{self.trace_id:032x}"

    @property
    def header(self) -> str:
        """As a `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


def parent_of(header: str | None) -> Parent | None:
    """The span that a `traceparent` names; None where it is not one, as the specification wants it.

    >>> parent_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").trace
    '0af7651916cd43dd8448eb211c80319c'
    >>> parent_of("00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
    True
    """
    found = _FORM.fullmatch(header) if header else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    return Parent(trace_id, span_id, bool(int(found[4], 16) & 1))


def parent_of_job(job_id: UUID, traceparent: str | None, ratio: float = 1.0) -> Parent:
    """The span that a job came from, or one that stands for the job itself; `ratio` of those are sampled."""
    found = parent_of(traceparent)
    if found is not None:
        return found
    # Of ids that were made in one moment only the last bits differ, so their bits alone decide nothing.
    share = crc32(job_id.bytes) / 2**32
    return Parent(job_id.int, job_id.int & (2**62 - 1) or 1, share < ratio)
