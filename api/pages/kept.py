"""What a page shows that may be a few seconds old, kept in this process and made once for all who ask."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Seconds for which pictures and numbers may be old.
SECONDS = 10
_MOST = 1000


class Kept(Generic[T]):
    """A few things by key; when there are too many, none."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[float, asyncio.Task[T]]] = {}

    async def get(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What is kept, or being made for somebody else; made anew if that is too old, or failed.

        Raises:
            Exception: what making it raises, for all who wait.
        """
        until, task = self._made.get(key, (0.0, None))
        if task is None or (task.done() and (until <= time.monotonic() or _failed(task))):
            if len(self._made) >= _MOST:
                self._made.clear()
            task = asyncio.create_task(make(), name="kept")
            task.add_done_callback(_failed)  # also where nobody waits any more
            self._made[key] = time.monotonic() + SECONDS, task
        # Whoever goes away takes it from nobody else.
        return await asyncio.shield(task)


def _failed(task: "asyncio.Task[Any]") -> bool:
    return task.cancelled() or task.exception() is not None
