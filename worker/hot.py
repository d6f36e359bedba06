"""The statements that every job runs, without SQLAlchemy's execution layer.

SQLAlchemy writes the SQL and opens the connections; a statement known beforehand needs no more of it. Each
thread keeps one connection for good, unless there are many threads. Saves about half of a statement's CPU time.
"""

import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Engine, Executable
from sqlalchemy.engine.interfaces import Compiled
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import ClauseElement

#: Connections on which a statement is tried, as long as they open: of each the server may end another.
_TRIES = 4


class Hot:
    """Runs single statements on an engine in autocommit mode."""

    def __init__(self, engine: Engine, *, keep: bool = True) -> None:
        self._engine = engine
        self._keep = keep
        self._local = threading.local()
        self._compiled: dict[Executable, tuple[Compiled, str]] = {}

    def first(self, statement: Executable, parameters: dict[str, Any]) -> Any | None:
        """The first row of the result, with its columns as attributes.

        A connection that the server ended since it was last used is replaced, and the statement run again:
        what these statements write is fenced, so that a repetition changes nothing.

        Raises:
            OperationalError: the database is away, or has no room left.
        """
        return self._first(statement, parameters, None)

    def first_under(self, lock: Executable, statement: Executable, parameters: dict[str, Any]) -> Any | None:
        """The same in a transaction that begins with taking a lock: it sees what the one before it did.

        Raises:
            OperationalError: the database is away, or has no room left.
        """
        return self._first(statement, parameters, lock)

    def _first(self, statement: Executable, parameters: dict[str, Any], lock: Executable | None) -> Any | None:
        sql, values = self._ready(statement, parameters)
        before = None if lock is None else self._ready(lock, parameters)
        for number in range(_TRIES):
            try:
                cursor = self._cursor(fresh=number > 0)
                if before is None:
                    cursor.execute(sql, values, prepare=True)
                    row = cursor.fetchone()
                else:
                    # What is sent in one go is one transaction, which the server ends by itself: should we be
                    # frozen meanwhile, nobody waits for us and the lock.
                    with cursor.connection.pipeline():
                        cursor.connection.execute(*before, prepare=True)
                        cursor.execute(sql, values, prepare=True)
                    row = cursor.fetchone()
            except psycopg.errors.DiskFull as e:  # the connection is as good as it was
                if not self._keep:
                    self._hand_back()
                raise OperationalError(sql, None, e) from e
            except (psycopg.OperationalError, psycopg.InterfaceError) as e:
                self._drop()
                if number == _TRIES - 1:
                    raise OperationalError(sql, None, e, connection_invalidated=True) from e
            else:
                if not self._keep:
                    self._hand_back()
                return row
        raise AssertionError("unreachable")

    def _ready(self, statement: Executable, parameters: dict[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
        """The text, and of the parameters those that it names."""
        known = self._compiled.get(statement)
        if known is None:
            assert isinstance(statement, ClauseElement)  # noqa: S101 (all of ours are)
            compiled = statement.compile(dialect=self._engine.dialect)
            known = self._compiled[statement] = (compiled, str(compiled))
        compiled, sql = known
        return sql, compiled.construct_params(parameters)

    def _cursor(self, *, fresh: bool) -> "psycopg.Cursor[Any]":
        cursor: psycopg.Cursor[Any] | None = getattr(self._local, "cursor", None)
        if cursor is None or fresh:
            held = self._engine.raw_connection()
            driver = held.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 (the settings' URL names psycopg)
            cursor = driver.cursor(binary=True, row_factory=namedtuple_row)
            self._local.held, self._local.cursor = held, cursor
        return cursor

    def _hand_back(self) -> None:
        self._local.held.close()
        self._local.held = self._local.cursor = None

    def _drop(self) -> None:
        held = getattr(self._local, "held", None)
        if held is not None:
            held.invalidate()
        self._local.held = self._local.cursor = None
        self._engine.dispose()  # those that wait in the pool were lost with it, most likely
