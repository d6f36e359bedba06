"""Limits that a scripted model keeps, so that clients can show that they keep them, too."""

import time
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Limits:
    """Requests and tokens within any `minute_s` seconds; None: no limit. A minute may be shorter, for tests."""

    rpm: int | None = None
    tpm: int | None = None
    minute_s: float = 60.0


class Window:
    """What was taken within the last minute."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def take(self, tokens: int) -> float:
        """Take a request of so many tokens: 0 if it fits; else nothing, and the seconds until it may."""
        now = time.monotonic()
        while self._taken and self._taken[0][0] <= now - self._limits.minute_s:
            self._tokens -= self._taken.popleft()[1]
        wait = max(self._until_request(now), self._until_tokens(now, tokens))
        if not wait:
            self._taken.append((now, tokens))
            self._tokens += tokens
        return wait

    def _until_request(self, now: float) -> float:
        rpm = self._limits.rpm
        if rpm is None or len(self._taken) < rpm:
            return 0.0
        return self._taken[len(self._taken) - rpm][0] + self._limits.minute_s - now

    def _until_tokens(self, now: float, tokens: int) -> float:
        tpm = self._limits.tpm
        if tpm is None or self._tokens + tokens <= tpm:
            return 0.0
        over = self._tokens + tokens - tpm
        for when, freed in self._taken:
            over -= freed
            if over <= 0:
                return when + self._limits.minute_s - now
        return self._limits.minute_s  # more than a whole minute's tokens: never
