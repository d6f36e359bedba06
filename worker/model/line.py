"""Who waits for the same candidates in this process stands in one line, and its head alone asks for admission.

A thousand waiting jobs so cost Redis as much as one, and the first that came is the first that goes. Batch work
has lines of its own, whose heads ask only while nobody else stands for any of the same candidates.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lines:
    """The lines of one event loop, by what is waited for."""

    def __init__(self) -> None:
        self._lines: dict[tuple[tuple[str, ...], bool], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def stand(self, names: tuple[str, ...], *, can_wait: bool = False) -> AsyncIterator[None]:
        """Wait until all who came before have left; `can_wait`: with the batch work."""
        line = (names, can_wait)
        lock, standing = self._lines.get(line, (asyncio.Lock(), 0))
        self._lines[line] = (lock, standing + 1)
        try:
            async with lock:
                yield
        finally:
            standing = self._lines[line][1] - 1
            if standing:
                self._lines[line] = (lock, standing)
            else:
                del self._lines[line]

    def urgent(self, names: tuple[str, ...]) -> bool:
        """Whether somebody who cannot wait stands for any of these."""
        return any(not can_wait and not set(names).isdisjoint(theirs) for theirs, can_wait in self._lines)
