"""What the pool counts, in the shape in which workers report it and the API shows it."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

#: Upper bounds of a histogram of seconds; what is longer is only in the count.
BOUNDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)


def image_name(tag: str) -> str:
    """An image without its hash, as for all metrics.

    >>> image_name("retort/python:abc123")
    'python'
    """
    return tag.rpartition("/")[2].partition(":")[0]


@dataclass(slots=True)
class Histogram:
    """How often something took how long. `counts[n]`: up to `BOUNDS[n]` and more than the bound before."""

    counts: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))
    count: int = 0
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        at = bisect_left(BOUNDS, seconds)
        if at < len(BOUNDS):
            self.counts[at] += 1
        self.count += 1
        self.sum_s += seconds

    def as_dict(self) -> dict[str, Any]:
        """As Prometheus and people read it: `buckets` are pairs of a bound and how many were up to it."""
        so_far = 0
        buckets = []
        for bound, count in zip(BOUNDS, self.counts, strict=True):
            so_far += count
            buckets.append([bound, so_far])
        return {"buckets": buckets, "count": self.count, "sum_s": round(self.sum_s, 6)}


@dataclass(slots=True)
class PoolStats:
    """Counts since the start, and cells now.

    Jobs that got a cell: `warm` one that waited for them, `cold` they waited for one, `reused` one in which an
    earlier job of their caller ran. Cells: `started`, `renewed` because they had waited long, `lost` when they
    were found dead or did not start, `unclean` after a reset that did not prove clean.
    """

    warm: int = 0
    cold: int = 0
    reused: int = 0
    started: int = 0
    renewed: int = 0
    lost: int = 0
    unclean: int = 0
    idle: int = 0
    preloaded: int = 0
    busy: int = 0
    starting: int = 0
    used: int = 0  # cells that wait for their caller's next job
    memory_mb: int = 0  # that all cells may use now, at most
    starts: dict[str, Histogram] = field(default_factory=dict)  # seconds to start a cell, by runtime
    by_image: dict[tuple[str, str], Histogram] = field(default_factory=dict)  # by image and runtime
    waits: Histogram = field(default_factory=Histogram)  # seconds that jobs waited for a cold cell

    def start_took(self, image: str, runtime: str, seconds: float) -> None:
        """Count a start."""
        self.started += 1
        self.starts.setdefault(runtime, Histogram()).add(seconds)
        self.by_image.setdefault((image_name(image), runtime), Histogram()).add(seconds)

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        histograms = ("starts", "by_image", "waits")
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in histograms}
        return {
            **plain,
            "starts": {runtime: each.as_dict() for runtime, each in self.starts.items()},
            "waits": self.waits.as_dict(),
        }
