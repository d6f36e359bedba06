"""Several processes at once, a Redis with nothing in it, and a port to a vendor of models."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from tests.integration.model import parties
from tests.integration.model.ports import DEEPSEEK, GEMINI, GPT, SONNET, Open
from tests.integration.model.vendor import Vendor, gateway, gateways, serving
from worker.model.port import Models
from worker.model.settings import ModelSettings

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


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    """Who answers, at once and well unless told otherwise."""
    with serving(Vendor()) as started:
        yield started


@pytest.fixture
def models(url: str, vendor: Vendor) -> Iterator[Open]:
    """Opens a port to the vendor, which serves four models; closes it after the test."""
    with ExitStack() as stack:

        def open_port(settings: ModelSettings | None = None, **values: Any) -> Models:
            served = values.pop("gateways", None) or gateways(gateway(vendor, GPT, GEMINI, DEEPSEEK, SONNET))
            return stack.enter_context(Models(served, url, settings or parties.quick(), **values))

        yield open_port
