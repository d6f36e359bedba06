"""The tables, a worker's store and the broker as tests reach them, empty before each test; cells of images."""

from collections.abc import Iterator

import docker
import pytest

from tests.harness import Broker, Jobs
from tests.integration.cells import Cells, Run
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


@pytest.fixture(scope="module")
def cells(engine: docker.DockerClient) -> Iterator[Cells]:
    """A cell of each image that is asked for."""
    opened = Cells()
    yield opened
    opened.close()


@pytest.fixture
def run(cells: Cells) -> Run:
    """Run a program by name, or code; gives the verdict and the facts. The cell is reset afterwards."""
    return cells.run
