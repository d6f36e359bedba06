"""Several processes at once, and a Redis with nothing in it."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait

import pytest
import redis

from tests.integration.model import parties

PROCESSES = 4


@pytest.fixture(scope="session")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Four processes that have imported what they need."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        wait([pool.submit(parties.quick) for _ in range(PROCESSES)])
        yield pool


@pytest.fixture
def url(redis_url: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return redis_url
