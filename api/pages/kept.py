"""What a page shows that may be a few seconds old, kept in this process."""

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

#: Seconds for which pictures and numbers may be old.
SECONDS = 10
_MOST = 1000


class Kept(Generic[T]):
    """A few things by key; when there are too many, none."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[float, T]] = {}

    def get(self, key: Hashable) -> T | None:
        """What is kept, unless it is too old."""
        until, found = self._found.get(key, (0.0, None))
        return found if until > time.monotonic() else None

    def put(self, key: Hashable, found: T) -> T:
        """Keep something, and give it back."""
        if len(self._found) >= _MOST:
            self._found.clear()
        self._found[key] = (time.monotonic() + SECONDS, found)
        return found
