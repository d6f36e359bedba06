"""Live output: what a program writes is published while it runs, for those who watch.

A job's thread only notes what comes; one thread publishes, ten times a second, for all jobs that have run for
longer than `AFTER_S`. A shorter job's output travels with its end alone, and it pays for none of this. What is
published is bounded per message, per second and per job; what is left out shows as a gap in the offsets, and
the stored row has it. domain/bell.py has the format, docs/live-output.md says how to read it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

from domain.bell import Output

log = logging.getLogger(__name__)

#: Seconds that a job must have run before anything of it is published, and between two rounds.
AFTER_S = 0.2
EVERY_S = 0.1

#: Bytes of one message, of one job in one round, and of one job in all.
MESSAGE_BYTES = 16 << 10
ROUND_BYTES = 64 << 10
JOB_BYTES = 1 << 20


class Publisher(Protocol):
    """Who takes what is published."""

    def show(self, job_id: UUID, parts: list[Output]) -> bool:
        """Publish parts of a job's output in this order; whether that could be done."""


class Watched:
    """The output of one job on its way: its own thread calls `note`, the publishing one the rest."""

    def __init__(self, job_id: UUID, attempt: int) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.began = time.monotonic()
        self.left = JOB_BYTES
        self.silent = False  # could not be published once: an end of it now is better than more gaps
        self._noted: deque[tuple[str, bytes]] = deque()
        self._at = {"stdout": 0, "stderr": 0}

    def note(self, stream: str, chunk: bytes) -> None:
        """Take note of output."""
        self._noted.append((stream, chunk))

    def take(self) -> list[Output]:
        """What is to be published now."""
        parts: list[Output] = []
        room = min(ROUND_BYTES, self.left)
        for _ in range(len(self._noted)):
            stream, chunk = self._noted.popleft()
            at = self._at[stream]
            self._at[stream] += len(chunk)
            shown = chunk[:room]
            room -= len(shown)
            self.left -= len(shown)
            for start in range(0, len(shown), MESSAGE_BYTES):
                part = shown[start : start + MESSAGE_BYTES]
                last = parts[-1] if parts else None
                if last and last.stream == stream and last.end == at + start and last.size < MESSAGE_BYTES // 2:
                    parts[-1] = Output(self.attempt, stream, last.at, last.data + part)
                else:
                    parts.append(Output(self.attempt, stream, at + start, part))
        return parts


class Live:
    """All jobs that run now, and the thread that publishes."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._watched: set[Watched] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="live-output", daemon=True)

    def open(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(10)

    @contextmanager
    def watching(self, job_id: UUID, attempt: int) -> Iterator[Watched]:
        """A block in which a job runs; give its output to `note`."""
        watched = Watched(job_id, attempt)
        self._watched.add(watched)
        try:
            yield watched
        finally:
            self._watched.discard(watched)

    def _loop(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self.step()
            except Exception:  # a slip of ours must not end what every job's watchers wait for
                log.exception("live output failed; it goes on")

    def step(self) -> None:
        """Publish what there is."""
        before = time.monotonic() - AFTER_S
        for watched in self._watched.copy():
            if watched.began > before or watched.silent:
                continue
            parts = watched.take()
            if parts and not self._publisher.show(watched.job_id, parts):
                watched.silent = True
