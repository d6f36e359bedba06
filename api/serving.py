"""Which models some live worker can ask. Workers say so of themselves; the API holds no key."""

import asyncio
import time

from api.database import Database
from domain.worker_statements import LIVE_WORKERS


class Serving:
    """The models that are served now; what was read stays good for `cache_s` seconds."""

    def __init__(self, database: Database, cache_s: float) -> None:
        self._cache_s = cache_s
        self._database = database
        self._models: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def models(self) -> frozenset[str]:
        """The catalogue's names of the models that a live worker's gateways serve."""
        async with self._lock:
            if time.monotonic() - self._read_at > self._cache_s:
                rows = await self._database.all(LIVE_WORKERS, {})
                self._models = frozenset(
                    name
                    for row in rows
                    if row.ready or row.facts.get("roles") != ["model"]
                    for gateway in row.facts.get("gateways") or ()
                    for name in gateway["models"]
                )
                self._read_at = time.monotonic()
            return self._models
