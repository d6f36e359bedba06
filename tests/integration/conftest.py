"""The tables, a worker's store and the broker as tests reach them, empty before each test."""

from collections.abc import Iterator

import pytest

from tests.harness import Broker, Jobs
from tests.integration.stores import THREADS
from worker.store import Store


@pytest.fixture
def jobs_table(clean_tables: None, database_url: str) -> Iterator[Jobs]:
    """Empty tables."""
    opened = Jobs(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(clean_tables: None, database_url: str) -> Iterator[Store]:
    """The store of one worker."""
    opened = Store(database_url, threads=THREADS)
    yield opened
    opened.close()


@pytest.fixture
def broker(clean_tables: None, redis_url: str) -> Iterator[Broker]:
    """An empty broker."""
    opened = Broker(redis_url)
    yield opened
    opened.close()
