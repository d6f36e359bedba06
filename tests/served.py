"""The whole service as its users meet it: API, worker, sandboxes and a scripted model, over real sockets."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

from domain.quotas import Scope
from tests.conftest import Services, empty
from tests.integration.api.harness import Server, Store
from tests.tasks import task_worker


@dataclass(frozen=True)
class Served:
    """Where it is, a key that may everything, and what it is found with."""

    url: str
    key: str
    store: Store
    env: dict[str, str]


@contextmanager
def served(services: Services, engine: docker.DockerClient, folder: Path, *scripts: Path) -> Iterator[Served]:
    """The service, empty; `folder` is for its logs and files."""
    empty(services)
    storage = (folder / "storage").as_uri()
    with ExitStack() as closing:
        store = Store(services.database_url, services.redis_url)
        closing.callback(store.close)
        worker, _ = closing.enter_context(task_worker(services, engine, folder, *scripts, storage_url=storage))
        server = Server(folder / "api.log", services.database_url, services.redis_url, storage_url=storage)
        closing.callback(server.stop)
        key = store.key("somebody", scopes=list(Scope))
        env = {
            "RETORT_URL": server.url,
            "RETORT_API_KEY": key,
            # Nothing of whoever runs the tests.
            "RETORT_STATE_DIR": str(folder / "no-state"),
            "XDG_CONFIG_HOME": str(folder / "no-config"),
        }
        yield Served(server.url, key, store, env)
        assert worker.stop() == 0
