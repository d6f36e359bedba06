"""Percentiles and rates that say when they know too little.

>>> percentile([3.0, 1.0, 2.0], 50)
2.0
>>> percentile([1.0] * 19, 95) is None  # one in twenty cannot be seen among nineteen
True
>>> Rate(0, 0).value is None
True
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Standard deviations from the middle within which 95 % lie.
_Z = statistics.NormalDist().inv_cdf(0.975)


def least_samples(percent: int) -> int:
    """How many values it takes for one of them to be expected beyond this percentile."""
    return math.ceil(100 / (100 - percent))


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The value below which `percent` of the values lie, interpolated; None if they are too few to tell."""
    if len(values) < least_samples(percent):
        return None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return statistics.fmean(values) if values else None


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        """From 0 to 1; None of nothing."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the true rate lies with a confidence of 95 % (Wilson); None of nothing."""
        if not self.of:
            return None
        share, square = self.hits / self.of, _Z * _Z
        middle = share + square / (2 * self.of)
        half = _Z * math.sqrt(share * (1 - share) / self.of + square / (4 * self.of**2))
        below = 1 + square / self.of
        # The share itself lies within it; only rounding could put it outside.
        return max(0.0, min(share, (middle - half) / below)), min(1.0, max(share, (middle + half) / below))
