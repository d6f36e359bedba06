"""A service whose callers may name receivers on loopback. Who sends is each test's own business."""

from collections.abc import Iterator

import pytest

from tests.conftest import Services, empty
from tests.integration.api.harness import Server
from tests.integration.webhooks.hooks import ALLOWED, KEY, Hooks
from tests.receivers import Receiver, receiving


@pytest.fixture(scope="module")
def server(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API whose callers may name receivers on loopback."""
    log = tmp_path_factory.mktemp("api") / "log"
    urls = (services.database_url, services.redis_url)
    served = Server(log, *urls, key_cache_s="0", webhook_key=KEY, **ALLOWED)
    yield served
    served.stop()


@pytest.fixture
def hooks(services: Services, server: Server) -> Iterator[Hooks]:
    """Empty tables, and a caller."""
    empty(services)
    opened = Hooks(services, server)
    yield opened
    opened.client.close()
    opened.store.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    with receiving() as made:
        yield made
