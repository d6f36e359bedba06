"""Real PostgreSQL, real Valkey, the real container engine: started or required once, shared by all tests."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import hypothesis
import psycopg
import pytest
import redis
from alembic import command
from alembic.config import Config
from docker.errors import DockerException
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from domain.tables.base import metadata
from retort.embedded import Postgres, Valkey
from tests import harness
from worker.sandbox import images

ROOT = Path(__file__).parent.parent

# A busy machine is no reason for a property to fail.
hypothesis.settings.register_profile(
    "retort",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("retort")


@dataclass(frozen=True)
class Services:
    """Where the tests' own servers listen."""

    database_url: str
    redis_url: str


#: A process has one migration of Alembic's at a time.
_MIGRATING = threading.Lock()


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring a database to the newest revision, as `retort up` does, or so many back (`-1`)."""
    step = command.downgrade if revision.startswith("-") else command.upgrade
    config = Config(ROOT / "migrations" / "alembic.ini")
    engine = create_engine(database_url)
    with _MIGRATING, engine.connect() as connection:
        config.attributes["connection"] = connection
        step(config, revision)
    engine.dispose()


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """A PostgreSQL with our tables, and a Valkey, in a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="retort-test-"))  # short: socket paths have a limit
    postgres = Postgres(folder / "postgres", folder / "run")
    valkey = Valkey(folder / "valkey", folder / "run")
    try:
        postgres.start()
        valkey.start()
        migrate(postgres.url)
        yield Services(postgres.url, valkey.url)
    finally:
        postgres.stop()
        valkey.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def database_url(services: Services) -> str:
    """What a process under test gets as RETORT_DATABASE_URL."""
    return services.database_url


@pytest.fixture(scope="session")
def redis_url(services: Services) -> str:
    """What a process under test gets as RETORT_REDIS_URL."""
    return services.redis_url


def empty(services: Services) -> None:
    """Empty every table of ours, and Valkey."""
    engine = create_engine(services.database_url)
    names = ", ".join(table.name for table in metadata.sorted_tables)
    for tries in range(20):
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"TRUNCATE {names} CASCADE")
            break
        except OperationalError as error:
            # A worker that serves several tests goes on claiming and sweeping: of two that wait for each other
            # the database ends one, now and then us.
            if tries == 19 or not isinstance(error.orig, psycopg.errors.DeadlockDetected):
                raise
    engine.dispose()
    with redis.Redis.from_url(services.redis_url) as client:
        client.flushdb()


@pytest.fixture
def clean_tables(services: Services) -> None:
    """Every table of ours empty, and nothing in Valkey."""
    empty(services)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The container engine. Sandboxes are what this project is, so without one the tests fail."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as reason:
        pytest.exit(
            f"the tests need a Docker engine and none answers ({reason}). `make test` installs and starts "
            "one on Debian and Ubuntu as root; elsewhere start Docker and see that you may use its socket.",
            returncode=1,
        )
    yield client
    for instance in harness.KILLED:
        harness.sweep(client, instance)
    client.close()


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> str:
    """The Python image as the tree wants it; built if it is not there."""
    return images.build("python").tag
