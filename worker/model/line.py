"""Who waits for the same candidates in this process stands in one line, and its head alone asks for admission.

A thousand waiting jobs so cost Redis as much as one, and the first that came is the first that goes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lines:
    """The lines of one event loop, by what is waited for."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, ...], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def stand(self, names: tuple[str, ...]) -> AsyncIterator[None]:
        """Wait until all who came before have left."""
        lock, standing = self._lines.get(names, (asyncio.Lock(), 0))
        self._lines[names] = (lock, standing + 1)
        try:
            async with lock:
                yield
        finally:
            standing = self._lines[names][1] - 1
            if standing:
                self._lines[names] = (lock, standing)
            else:
                del self._lines[names]
