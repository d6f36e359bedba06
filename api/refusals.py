"""How often an address may send keys that are not valid."""

import time

from api.problems import Kind, Problem

_MOST_REMEMBERED = 10_000


class Refusals:
    """How often an address sent keys that are not valid, in this process: each costs a look at the database."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._burst = max(5.0, 10 * per_s)
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, address: str) -> None:
        """Let a key be looked up.

        Raises:
            Problem: 429, this address sent too many keys that are not valid.
        """
        if self._level(address) > self._burst - 1:
            raise Problem(
                Kind.RATE_LIMITED,
                "too many requests with keys that are not valid came from this address",
                headers={"Retry-After": "1"},
            )

    def note(self, address: str) -> None:
        """A key was not valid."""
        level = self._level(address)
        if len(self._buckets) >= _MOST_REMEMBERED:
            self._buckets.clear()
        self._buckets[address] = (level + 1, time.monotonic())

    def _level(self, address: str) -> float:
        level, at = self._buckets.get(address, (0.0, 0.0))
        return max(0.0, level - (time.monotonic() - at) * self._per_s)
