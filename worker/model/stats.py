"""What one worker's calls came to since it started. In memory: the rows of `model_calls` are the record."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from threading import Lock
from typing import Any

from worker.model.want import CallRecord, CallStatus

#: Calls whose latency is averaged.
RECENT = 1_000

MONTH_S = 30 * 86_400
#: Less than this says nothing about a month.
LEAST_S = 60.0


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of calls, money in dollars, seconds. None where there is nothing to tell from."""

    total: int
    success: int
    failed: int
    cached: int
    shared: int
    success_rate: float | None  # of the calls that were made, from 0 to 1
    cost_usd: Decimal
    cost_per_success_usd: Decimal | None  # of those with a price; what failures cost is in it
    unpriced: int  # successes whose price is unknown, and which are not in the cost
    average_latency_s: float | None  # of the last calls that were made and answered
    monthly_cost_usd: Decimal | None  # if it went on like this

    def as_dict(self) -> dict[str, Any]:
        """The same as a JSON object, money as text."""
        return {
            name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in asdict(self).items()
        }


class LiveStats:
    """Counts records, from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._lock = Lock()
        self._counts = dict.fromkeys(CallStatus, 0)
        self._cost = Decimal(0)
        self._unpriced = 0
        self._latencies: deque[float] = deque(maxlen=RECENT)

    def count(self, record: CallRecord) -> None:
        """Add a call."""
        with self._lock:
            self._counts[record.status] += 1
            if record.cost_usd is not None:
                self._cost += record.cost_usd
            elif record.status is CallStatus.OK:
                self._unpriced += 1
            if record.status is CallStatus.OK:
                self._latencies.append(record.latency_s)

    def now(self) -> Stats:
        """The counts so far."""
        with self._lock:
            counts, cost, latencies = dict(self._counts), self._cost, list(self._latencies)
            unpriced = self._unpriced
        elapsed_s = self._clock() - self._since
        priced = counts[CallStatus.OK] - unpriced
        made = counts[CallStatus.OK] + counts[CallStatus.FAILED]
        return Stats(
            total=sum(counts.values()),
            success=counts[CallStatus.OK],
            failed=counts[CallStatus.FAILED],
            cached=counts[CallStatus.CACHED],
            shared=counts[CallStatus.SHARED],
            success_rate=counts[CallStatus.OK] / made if made else None,
            cost_usd=cost,
            cost_per_success_usd=_rounded(cost / priced) if priced else None,
            unpriced=unpriced,
            average_latency_s=sum(latencies) / len(latencies) if latencies else None,
            monthly_cost_usd=_rounded(cost * MONTH_S / Decimal(elapsed_s)) if elapsed_s >= LEAST_S else None,
        )


def _rounded(usd: Decimal) -> Decimal:
    """A quotient of money, to a millionth of a dollar."""
    return usd.quantize(Decimal("0.000001"))
