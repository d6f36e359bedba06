"""The API's door to PostgreSQL: single statements, each its own transaction, one round trip."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
import psycopg
from sqlalchemy import Executable, Row
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from api.lanes import Lanes
from api.meters import Meters
from api.problems import Problem, unavailable
from domain.sessions import OPTIONS

log = logging.getLogger(__name__)

Parameters = Mapping[str, Any]
T = TypeVar("T")

#: How a database that does not answer shows.
_SILENT = (OperationalError, InterfaceError, PoolTimeoutError, TimeoutError, OSError)

#: Connections beside those of the hot path.
_OTHERS = 4

#: Seconds that a question over much may take.
SLOW_S = 30

#: Memory for each sort and each grouping of such a question; with less they go to disk.
SLOW_MB = 32

#: Seconds after which a transaction is given up, whatever the database says of its statements.
_LONGEST_S = 60

#: Transactions of many statements at the same time.
_TRANSACTIONS = 2


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


class AlreadyStored(Exception):
    """An insert that was tried again, on a fresh connection, found that its first try was stored."""


class Database:
    """Runs statements on pooled connections in autocommit mode.

    A statement that finds its connection dead (the database was restarted) is tried once more on a fresh
    one: every statement here is a read, or an insert under an id that we chose.
    """

    def __init__(self, url: str, *, pool_size: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pool_size = pool_size
        self._engine: AsyncEngine = create_async_engine(
            url,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            pool_size=pool_size + _OTHERS,
            max_overflow=0,
            pool_timeout=timeout_s,
            pool_use_lifo=True,
            pool_reset_on_return=None,  # nothing to reset: no statement leaves a transaction open
            json_serializer=_json,
            json_deserializer=orjson.loads,
            connect_args={
                "connect_timeout": 3,
                # Only lanes prepare statements: a plan for any value of a filter is a bad one for most.
                "prepare_threshold": 2**31,
                # Zero is the server's own statement timeout; ours ends a wait, this ends the work.
                "options": f"{OPTIONS} -c timezone=UTC -c statement_timeout={int(timeout_s * 1000)}",
            },
        )
        self._lanes = Lanes(self._engine, pool_size)
        self._together = asyncio.Semaphore(_TRANSACTIONS)

    def watched(self, meters: Meters) -> None:
        """Have connections counted. Lanes keep theirs: one counts as in use while a statement runs on it."""
        pool = self._engine.pool
        assert isinstance(pool, QueuePool)  # noqa: S101 (what engines have unless told otherwise)

        def in_use() -> int:
            return pool.checkedout() - self._lanes.open + self._lanes.busy

        meters.watch(
            "retort_database_connections", "Connections to the database that are open.",
            lambda: pool.checkedout() + pool.checkedin(),
        )  # fmt: skip
        meters.watch("retort_database_connections_in_use", "Of these, in use now.", in_use)
        meters.watch(
            "retort_database_connections_most", "Connections that there may be.",
            lambda: pool.size(),
        )  # fmt: skip

    async def warm(self) -> None:
        """Open the lanes, so that no request has to. A dead database is no error here."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._lanes.warm()
        except (*_SILENT, DBAPIError) as error:
            log.warning("the database does not answer yet: %s", type(error).__name__)

    async def close(self) -> None:
        """Close all connections."""
        await self._lanes.close()
        await self._engine.dispose()

    async def hot(self, statement: Executable, parameters: Parameters) -> Any | None:
        """The first row, with its columns as attributes: for the few statements that every job runs.

        Raises:
            AlreadyStored: of an insert.
            Problem: 503, the database does not answer.
        """
        tries = 0
        while True:
            tries += 1
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._lanes.first(statement, parameters)
            except (psycopg.errors.QueryCanceled, psycopg.errors.DiskFull) as error:
                raise _down(error) from error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                # The server ended this connection; the other pooled ones are most likely dead as well.
                if tries > self._pool_size:
                    raise _down(error) from error
            except psycopg.errors.UniqueViolation as error:
                if tries == 1:
                    raise
                raise AlreadyStored from error
            except _SILENT as error:
                raise _down(error) from error

    async def all(self, statement: Executable, parameters: Parameters) -> Sequence[Row[Any]]:
        """All rows.

        Raises:
            Problem: 503, the database does not answer.
        """
        return await self._guarded(statement, parameters, rows=True)

    async def _guarded(
        self, statement: Executable, parameters: Parameters, *, rows: bool
    ) -> Sequence[Row[Any]]:
        try:
            try:
                return await self._run(statement, parameters, rows=rows)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return await self._run(statement, parameters, rows=rows)
        except _SILENT as error:
            raise _down(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _down(error) from error
            raise  # a defect of ours

    async def slow(self, statement: Executable, parameters: Parameters) -> Sequence[Row[Any]]:
        """All rows of a question over much, which may take longer than others; few are asked at a time.

        Raises:
            Problem: 503, the database does not answer, or took too long.
        """

        async def ask(connection: AsyncConnection) -> Sequence[Row[Any]]:
            await take_time(connection)
            return (await connection.execute(statement, parameters)).all()

        return await self.together(ask)

    async def together(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do several things in one transaction: all of them are done, or none.

        As with single statements, where the connection dies it is done once more; `work` inserts something
        under an id that we chose. Only a few do so at a time, so that connections are left for everybody else.

        Raises:
            AlreadyStored: the first try was stored after all.
            Problem: 503, the database does not answer.
        """
        tries = 0
        async with self._together:
            while True:
                tries += 1
                try:
                    return await self._transaction(work)
                except IntegrityError as error:
                    if tries == 1:
                        raise
                    raise AlreadyStored from error
                except DBAPIError as error:
                    if not error.connection_invalidated and not isinstance(error, _SILENT):
                        raise
                    if tries > 1 or not error.connection_invalidated:
                        raise _down(error) from error
                except _SILENT as error:
                    raise _down(error) from error

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with asyncio.timeout(_LONGEST_S), self._engine.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                return await work(connection)

    async def one(self, statement: Executable, parameters: Parameters) -> Row[Any] | None:
        """The first row, if any.

        Raises:
            Problem: 503, the database does not answer.
        """
        rows = await self.all(statement, parameters)
        return rows[0] if rows else None

    async def run(self, statement: Executable, parameters: Parameters) -> None:
        """Run a statement that gives no rows.

        Raises:
            Problem: 503, the database does not answer.
        """
        await self._guarded(statement, parameters, rows=False)

    async def _run(self, statement: Executable, parameters: Parameters, *, rows: bool) -> Sequence[Row[Any]]:
        async with asyncio.timeout(self._timeout_s), self._engine.connect() as connection:
            result = await connection.execute(statement, parameters)
            return result.all() if rows else ()


async def take_time(connection: AsyncConnection) -> None:
    """Let the statements of a transaction take longer than others, and more memory."""
    await connection.exec_driver_sql(
        f"SET LOCAL statement_timeout = '{SLOW_S}s'; SET LOCAL work_mem = '{SLOW_MB}MB'"
    )


def _down(error: Exception) -> Problem:
    cause = getattr(error, "orig", None) or error
    what = "has no room left" if isinstance(cause, psycopg.errors.DiskFull) else "does not answer"
    log.warning("the database %s: %s", what, type(cause).__name__)
    return unavailable(f"the database {what}; nothing is lost, try again")
