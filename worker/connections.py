"""The connections of one worker process to the database: kinds of them, so that none waits behind another."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from domain.sessions import CLAIMING, OPTIONS
from worker.hot import Hot

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A database whose machine is gone is noticed by TCP, after some 20 s; on a local socket these mean nothing.
CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
    "options": OPTIONS,
}

#: Seconds for which a step waits for the database. Nobody else can take its job meanwhile, and what a program
#: did is worth more than the place that it holds.
PATIENCE_S = 300.0

#: Connections of each kind that threads share which mostly wait.
SHARED = 8


class Connections:
    """See the module."""

    def __init__(self, url: str, *, threads: int, share: bool) -> None:
        """`share`: threads mostly wait for others, and take a connection for one statement at a time."""
        common: dict[str, Any] = {
            "isolation_level": "AUTOCOMMIT",
            "pool_timeout": 10,
            "connect_args": CONNECT,
        }
        self._threads = min(threads, SHARED) if share else threads
        threads = self._threads
        self.durable = create_engine(url, pool_size=threads + 1, max_overflow=0, **common)
        hasty = {**common, "connect_args": {**CONNECT, "options": CLAIMING}}
        self.hasty = create_engine(url, pool_size=threads + 1, max_overflow=0, **hasty)
        self.hot = Hot(self.durable, keep=not share)
        self.hot_hasty = Hot(self.hasty, keep=not share)
        # Heartbeats must not queue behind jobs.
        self.reserved = create_engine(url, pool_size=1, max_overflow=0, **hasty)
        self.sweeping = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=10, connect_args=CONNECT)
        # Retention takes its time: one connection holds the lock that keeps it single, one works.
        self.slow = create_engine(url, pool_size=2, max_overflow=0, **common)
        self._all = (self.durable, self.hasty, self.reserved, self.sweeping, self.slow)

    def close(self) -> None:
        """Close every connection."""
        for engine in self._all:
            engine.dispose()

    def warm_up(self) -> None:
        """Open connections now, so that no job waits for one."""
        for engine in (self.durable, self.hasty):
            opened = [engine.connect() for _ in range(self._threads)]
            for connection in opened:
                connection.exec_driver_sql("SELECT 1")
            for connection in opened:
                connection.close()

    def count(self) -> tuple[int, int, int]:
        """Connections that are open, those in use (a thread's own is), and how many there may be."""
        pools = [each.pool for each in self._all]
        counted = [pool for pool in pools if isinstance(pool, QueuePool)]
        in_use = sum(pool.checkedout() for pool in counted)
        return in_use + sum(pool.checkedin() for pool in counted), in_use, sum(pool.size() for pool in counted)


def patiently(step: Callable[[], T]) -> T:
    """Repeat a step while the database is away or has no room left; give up after `PATIENCE_S`."""
    give_up = time.monotonic() + PATIENCE_S
    pause = 0.1
    while True:
        try:
            return step()
        except DBAPIError as e:
            if not _passing(e) or time.monotonic() > give_up:
                raise
            log.warning("the database is away, trying again: %s", str(e.orig).strip())
            time.sleep(pause)
            pause = min(2 * pause, 2.0)


def _passing(error: DBAPIError) -> bool:
    """Whether it is the database's state that failed a statement, not the statement."""
    full = isinstance(error.orig, psycopg.errors.DiskFull)
    return full or error.connection_invalidated or "connection" in str(error.orig).lower()
