"""One served API for all tests of this folder; tables are emptied before each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.api.harness import Contract, Server, Store
from tests.visitor import Visitor


@pytest.fixture(scope="session")
def server(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API with its usual settings, but no memory of keys: each test has keys of its own."""
    log = tmp_path_factory.mktemp("api") / "log"
    key = "a key for the secrets of webhooks, in tests alone"
    served = Server(
        log, database_url, redis_url, key_cache_s="0", models_cache_s="0", webhook_key=key, max_webhooks="3"
    )
    yield served
    served.stop()


@pytest.fixture
def start(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> Iterator[Callable[..., Server]]:
    """Starts further servers, with other settings."""
    started: list[Server] = []

    def new(**settings: str) -> Server:
        urls = {"database_url": database_url, "redis_url": redis_url}
        served = Server(tmp_path / f"log{len(started)}", **{**urls, **settings})
        started.append(served)
        return served

    yield new
    for served in started:
        served.stop()


@pytest.fixture(scope="session")
def contract(server: Server) -> Contract:
    """What the API says of itself."""
    return Contract(httpx.get(f"{server.url}/openapi.json").json())


@pytest.fixture
def store(clean_tables: None, database_url: str, redis_url: str) -> Iterator[Store]:
    """The empty database and event bus."""
    opened = Store(database_url, redis_url)
    yield opened
    opened.close()


@pytest.fixture
def key(store: Store) -> str:
    """An API key."""
    return store.key("alice")


@pytest.fixture
def connect(contract: Contract, key: str) -> Iterator[Callable[..., httpx.Client]]:
    """Makes clients whose every answer is checked; with a key unless told another or none."""
    made: list[httpx.Client] = []

    def new(url: str, with_key: str | None = key) -> httpx.Client:
        headers = {} if with_key is None else {"Authorization": f"Bearer {with_key}"}
        client = httpx.Client(
            base_url=url,
            headers=headers,
            event_hooks={"response": [contract.check]},
            timeout=60,
        )
        made.append(client)
        return client

    yield new
    for client in made:
        client.close()


@pytest.fixture
def client(server: Server, connect: Callable[..., httpx.Client]) -> httpx.Client:
    """A client with a key. What workers of the test before offered is forgotten: /readyz looks at once."""
    httpx.get(f"{server.url}/readyz")
    return connect(server.url)


@pytest.fixture
def visitor(server: Server, key: str) -> Iterator[Visitor]:
    """Alice, signed in."""
    with Visitor(server.url) as found:
        found.sign_in(key)
        yield found


@pytest.fixture
def stranger(server: Server, store: Store) -> Iterator[Visitor]:
    """Nobody yet."""
    with Visitor(server.url) as found:
        yield found
