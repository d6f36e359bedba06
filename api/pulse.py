"""Whether the event loop moves: a task of it beats, and a thread beside it looks.

Whatever computes or waits in the loop's thread holds up every request, `/healthz` on the API's own port among
them. So whoever tells of it, and of what it was, must not need the loop.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from telemetry import scrape
from telemetry.settings import load_telemetry

log = logging.getLogger(__name__)

#: Seconds between two beats, and between two looks.
BEAT_S = 0.25

#: Seconds by which a beat may be late before the loop counts as standing still.
LATE_S = 1.0

#: Seconds for which a thread that computes keeps the interpreter from one that waits for it. Whoever asks while
#: the loop computes waits so long at every step of the answer, and with Python's 5 ms for seconds in all.
TURN_S = 0.0005

#: What the longest lag is told of, in seconds.
REMEMBERED_S = 60.0

#: Innermost frames of a stack that are logged.
_FRAMES = 30


class Pulse:
    """Watches the loop in which `run` runs. All else may be asked from any thread, and waits for nobody."""

    def __init__(self, beat_s: float = BEAT_S, late_s: float = LATE_S) -> None:
        self._beat_s = beat_s
        self._late_s = late_s
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._beat_at: float | None = None  # None: nobody beats, so nothing is late
        self._lags: deque[float] = deque([0.0], maxlen=max(1, round(REMEMBERED_S / beat_s)))
        self._told = False  # of the standstill that lasts
        self.stalls = 0  # so far
        #: For a registry.
        self.watched = scrape.Watched(self._metrics)

    async def run(self) -> None:
        """Beat until cancelled."""
        self._beat_at = time.monotonic()
        usual = sys.getswitchinterval()
        sys.setswitchinterval(TURN_S)
        me = threading.get_ident()
        threading.Thread(target=self._watch, args=(me,), name="pulse", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(self._beat_s)
                self._beat()
        finally:
            sys.setswitchinterval(usual)
            self._ended.set()
            self._beat_at = None

    @property
    def lag_s(self) -> float:
        """By how many seconds the next beat is late now."""
        beat_at = self._beat_at
        return 0.0 if beat_at is None else max(0.0, time.monotonic() - beat_at - self._beat_s)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the loop moves, and by how much it is late."""
        lag = self.lag_s
        moves = lag <= self._late_s
        return moves, {"status": "ok" if moves else "standing still", "loop_lag_s": round(lag, 3)}

    def _beat(self) -> None:
        with self._lock:
            lag, told = self.lag_s, self._told
            self._lags.append(lag)
            self._beat_at, self._told = time.monotonic(), False
            late = lag > self._late_s
            if late and not told:
                self.stalls += 1
        if told:
            log.warning("the event loop goes on; it stood still for %.1f s", lag)
        elif late:
            # Nobody could look meanwhile, so there is no stack to tell.
            log.warning(
                "the whole process stood still for %.1f s, not only its event loop: it was stopped, had no "
                "processor, or something kept the interpreter to itself",
                lag,
            )

    def _watch(self, thread: int) -> None:
        looked_at = time.monotonic()
        while not self._ended.wait(self._beat_s):
            now = time.monotonic()
            # Who was held up as well cannot say that the loop alone was, and would show what came afterwards.
            held_up = now - looked_at > self._late_s
            looked_at = now
            if not held_up:
                self._look(thread)

    def _look(self, thread: int) -> None:
        with self._lock:
            lag = self.lag_s
            if lag <= self._late_s or self._told:
                return
            self._told = True
            self.stalls += 1
            stack = _stack_of(thread)
        log.warning("the event loop stands still, for %.1f s so far", lag, extra={"stack": stack})

    def _metrics(self) -> Iterator[Metric]:
        lag = self.lag_s
        with self._lock:
            stalls, longest = self.stalls, max(lag, max(self._lags))
        yield CounterMetricFamily(
            "retort_loop_stalls", "Times that the event loop stood still for more than a second.", stalls
        )
        yield GaugeMetricFamily("retort_loop_lag_seconds", "By how much the event loop is late now.", lag)
        yield GaugeMetricFamily(
            "retort_loop_lag_longest_seconds", "The most by which it was late in the last minute.", longest
        )


def _stack_of(thread: int) -> str:
    """Where a thread is, the innermost frame last. Files, lines and functions alone: no values."""
    frame = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame, _FRAMES))


@contextmanager
def listening(pulse: Pulse) -> Iterator[None]:
    """Tell, on the port for metrics where one is set, whether the loop moves.

    What the API counts besides is told on its own port alone: scraped from both, sums would be doubled.

    Raises:
        OSError: no port is to be had.
    """
    telemetry = load_telemetry()
    if telemetry.metrics_port is None:
        yield
        return
    registry = scrape.new_registry()
    registry.register(pulse.watched)
    served = scrape.serve(registry, telemetry.metrics_host, telemetry.metrics_port, pulse.health)
    try:
        yield
    finally:
        served.close()
