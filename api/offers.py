"""What live workers offer, looked at again and again so that no request has to ask the database."""

import asyncio

from api.database import Database
from api.intake import Intake
from api.problems import Problem
from domain.statements import LIVE_WORKERS
from domain.states import Runtime

#: Seconds between looks: workers report every second, and count as gone after six.
LOOK_S = 1.0


class Offers:
    """Tells the intake which tiers can be had."""

    def __init__(self, database: Database, intake: Intake) -> None:
        self._database = database
        self._intake = intake

    async def look(self) -> None:
        """Look once. While nobody reports, or the database is away, nothing is known and nothing refused."""
        try:
            live = await self._database.all(LIVE_WORKERS, {})
        except Problem:
            live = []
        known = {each.value for each in Runtime}
        offered = {name for worker in live for name in worker.facts.get("runtimes") or () if name in known}
        self._intake.offered = frozenset(map(Runtime, offered)) or None

    async def run(self) -> None:
        """Look for ever; a task of its own."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)
