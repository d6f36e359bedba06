"""How often and how long each thing is measured."""

import sys
from dataclasses import dataclass

from benchmarks import machine


@dataclass(frozen=True, slots=True)
class Pace:
    """Repetitions, and seconds."""

    floor_runs: int = 20
    floor_s: float = 12.0
    starts: int = 100
    recycled: int = 300
    fresh_cells: int = 30
    preloaded_cells: int = 10
    pandas_cells: int = 10
    requests: int = 500
    fresh_requests: int = 40
    fresh_pause_s: float = 1.0
    load_s: float = 8.0
    fresh_load_s: float = 15.0
    settle_s: float = 20.0
    kills: int = 200
    neighbours: int = 40
    neighbour_pause_s: float = 1.0  # four fresh containers a second are half of two cores by themselves
    model_calls: int = 1000
    tasks: int = 200

    def say(self, line: str) -> None:
        """Progress, apart from the results."""
        print(f"bench: {line}", file=sys.stderr, flush=True)

    def settle(self) -> None:
        """Wait until what went before has died down."""
        if not machine.wait_quiet(self.settle_s):
            self.say(f"WARNING: the machine did not become quiet within {self.settle_s:g} s")


QUICK = Pace(
    floor_runs=5,
    floor_s=4.0,
    starts=20,
    recycled=60,
    fresh_cells=5,
    preloaded_cells=2,
    pandas_cells=2,
    requests=100,
    fresh_requests=6,
    load_s=2.0,
    fresh_load_s=5.0,
    settle_s=4.0,
    kills=8,
    neighbours=8,
    model_calls=50,
    tasks=20,
)
