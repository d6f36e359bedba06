"""Database connections for the hot path: SQLAlchemy without its execution layer.

A job that is submitted and waited for needs two statements. Run through `AsyncConnection.execute` they cost
1.3 ms of CPU, mostly for greenlets and result objects that a statement known beforehand does not need; run
here, 0.45 ms. SQLAlchemy still writes the SQL and opens the connections.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Executable, Insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql import ClauseElement


class Lane:
    """One connection, held for long, and one cursor on it."""

    def __init__(self, held: AsyncConnection, driver: "psycopg.AsyncConnection[Any]") -> None:
        self._held = held
        self._driver = driver
        self._cursor = driver.cursor(binary=True, row_factory=namedtuple_row)

    @classmethod
    async def open(cls, engine: AsyncEngine) -> "Lane":
        """A lane on a fresh connection of the engine."""
        held = await engine.connect()
        raw = await held.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101 (the settings' URL names psycopg)
        return cls(held, driver)

    @property
    def broken(self) -> bool:
        """Whether its connection is of no more use."""
        idle = psycopg.pq.TransactionStatus.IDLE
        return self._driver.closed or self._driver.info.transaction_status != idle

    async def first(self, sql: str, parameters: Mapping[str, Any]) -> Any | None:
        """The first row of the result, with its columns as attributes."""
        await self._cursor.execute(sql, parameters, prepare=True)
        return await self._cursor.fetchone()

    async def close(self) -> None:
        """Give the connection up."""
        await self._held.invalidate()
        await self._held.close()


class Lanes:
    """A few lanes, opened when first needed or by `warm`."""

    def __init__(self, engine: AsyncEngine, count: int) -> None:
        self._engine = engine
        self._count = count
        self.open = 0  # lanes that hold a connection
        # What is None has still to be opened; the last lane used is the next, while it is warm.
        self._free: asyncio.LifoQueue[Lane | None] = asyncio.LifoQueue()
        for _ in range(count):
            self._free.put_nowait(None)
        self._sql: dict[tuple[Executable, tuple[str, ...]], tuple[str, dict[str, Any]]] = {}

    @property
    def busy(self) -> int:
        """Lanes in use."""
        return self._count - self._free.qsize()

    def sql(self, statement: Executable, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The statement as text, and its constants; compiled once."""
        # A plain INSERT has the columns that it is given; any other statement names its own.
        plain = isinstance(statement, Insert) and statement.select is None
        names = tuple(parameters) if plain else ()
        known = self._sql.get((statement, names))
        if known is None:
            assert isinstance(statement, ClauseElement)  # noqa: S101 (all of ours are)
            compiled = statement.compile(
                dialect=self._engine.dialect,
                column_keys=list(names) if plain else None,
            )
            values = dict(compiled.construct_params(dict(parameters)) or {})
            known = (str(compiled), {name: values[name] for name in values.keys() - parameters.keys()})
            self._sql[statement, names] = known
        return known

    async def first(self, statement: Executable, parameters: Mapping[str, Any]) -> Any | None:
        """The first row. Objects among the parameters go to JSON columns."""
        sql, constants = self.sql(statement, parameters)
        given = constants | {
            name: orjson.dumps(value).decode() if isinstance(value, dict) else value
            for name, value in parameters.items()
        }
        async with self._lane() as lane:
            return await lane.first(sql, given)

    @asynccontextmanager
    async def _lane(self) -> AsyncIterator[Lane]:
        lane = await self._free.get()
        try:
            if lane is None:
                lane = await Lane.open(self._engine)
                self.open += 1
            yield lane
        finally:
            if lane is not None and lane.broken:
                self.open -= 1
                await lane.close()
                lane = None
            self._free.put_nowait(lane)

    async def warm(self) -> None:
        """Open all lanes that are free."""
        opened = await asyncio.gather(*(Lane.open(self._engine) for _ in range(self._count)))
        for _ in opened:
            self._free.get_nowait()
        self.open += len(opened)
        for lane in opened:
            self._free.put_nowait(lane)

    async def close(self) -> None:
        """Close all lanes that are free."""
        while not self._free.empty():
            lane = self._free.get_nowait()
            if lane is not None:
                await lane.close()
