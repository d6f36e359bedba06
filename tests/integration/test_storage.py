"""The storage: a local folder and a bucket of a real S3 server keep the same promises; and retention."""

import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import insert, select, text, update

from domain.files import artifact_key, file_key
from domain.ids import new_id
from domain.tables.attempt import artifacts
from domain.tables.caller import files
from storage.store import Missing, Storage, StorageError, default_url, spool
from tests.harness import Jobs, eventually
from worker.retention import Retention
from worker.retention_store import RetentionStore
from worker.store import Store

BUCKET = "retort-tests"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on an S3 server of the tests' own, which others wrote."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ALLOW_HTTP", "true")
    patch.setenv("AWS_ACCESS_KEY_ID", "key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patch.setenv("AWS_REGION", "us-east-1")

    def up() -> bool:
        try:
            return httpx.put(f"{url}/{BUCKET}").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(up, "the S3 server answers")
        yield f"s3://{BUCKET}/some/prefix"
    finally:
        server.kill()
        server.wait()
        patch.undo()


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A storage of each kind."""
    if request.param == "local":
        return Storage((tmp_path / "new" / "folder").as_uri())
    return Storage(request.getfixturevalue("s3"))


def put(storage: Storage, key: str, content: bytes) -> None:
    """Store some bytes."""
    with spool() as file:
        file.write(content)
        storage.put(key, file)


@pytest.mark.parametrize("size", [0, 1, 300_000, 12 << 20])
def test_bytes_are_kept(storage: Storage, size: int) -> None:
    content = os.urandom(size)
    key = artifact_key(new_id())
    put(storage, key, content)
    assert b"".join(storage.read(key)) == content
    put(storage, key, b"other")
    assert b"".join(storage.read(key)) == b"other"
    storage.delete(key)
    storage.delete(key)
    with pytest.raises(Missing):
        list(storage.read(key))


async def _through_the_loop(storage: Storage) -> tuple[bytes, bytes]:
    key = file_key(new_id())
    await storage.put_async(key, io.BytesIO(b"0123456789"))
    whole = b"".join([piece async for piece in await storage.open_async(key)])
    part = b"".join([piece async for piece in await storage.open_async(key, 2, 5)])
    await storage.delete_async(key)
    await storage.delete_async(key)
    with pytest.raises(Missing):
        await storage.open_async(key)
    return whole, part


def test_the_event_loops_half_does_the_same(storage: Storage) -> None:
    import asyncio

    assert asyncio.run(_through_the_loop(storage)) == (b"0123456789", b"234")


def test_all_objects_are_listed(storage: Storage) -> None:
    keys = {artifact_key(new_id()) for _ in range(5)}
    for key in keys:
        put(storage, key, b"x")
    put(storage, file_key(new_id()), b"x")
    listed = {each.key: each.modified for page in storage.pages("artifacts") for each in page}
    assert keys <= set(listed)
    assert all(key.startswith("artifacts/") for key in listed)
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=5) < listed[key] < now + timedelta(minutes=5) for key in keys)


def test_a_local_folder_is_its_owners_alone(tmp_path: Path) -> None:
    put(Storage(default_url(tmp_path)), "artifacts/x", b"x")
    assert (tmp_path / "storage").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", ["file:///proc/nowhere", "s3://nobody/here", "nonsense://x"])
def test_a_storage_that_does_not_answer_is_an_error_of_ours(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("storage.store._TRIES_S", 1)
    with pytest.raises(StorageError):
        put(Storage(url), "artifacts/x", b"x")


# --- retention ----------------------------------------------------------------------------------------


class House:
    """A storage with files and artifacts, and their rows."""

    def __init__(self, table: Jobs, storage: Storage) -> None:
        self.table = table
        self.storage = storage

    def artifact(self, job_id: UUID, *, row: bool = True, days: int = 0) -> UUID:
        """An artifact of a job, so many days old."""
        made = new_id()
        put(self.storage, artifact_key(made), b"x")
        values = {"id": made, "job_id": job_id, "attempt": 1, "name": str(made), "media_type": "x/y"}
        if row:
            with self.table.engine.connect() as connection:
                connection.execute(insert(artifacts).values(**values, size=1, sha256=b""))
                past = text(f"now() - interval '{days} days'")
                connection.execute(update(artifacts).where(artifacts.c.id == made).values(created_at=past))
        return made

    def file(self, *, row: bool = True, days: int = 0) -> UUID:
        """An uploaded file, so many days old."""
        made = new_id()
        put(self.storage, file_key(made), b"x")
        if row:
            with self.table.engine.connect() as connection:
                values = {"id": made, "caller_id": self.table.caller(), "name": "x", "size": 1, "sha256": b""}
                past = text(f"now() - interval '{days} days'")
                connection.execute(insert(files).values(**values, created_at=past))
        return made

    def left(self, kind: str) -> set[UUID]:
        """What the storage still has."""
        return {UUID(each.key.rpartition("/")[2]) for page in self.storage.pages(kind) for each in page}

    def rows(self) -> set[UUID]:
        """What still has a row."""
        with self.table.engine.connect() as connection:
            found = [*connection.execute(select(artifacts.c.id)), *connection.execute(select(files.c.id))]
        return {row.id for row in found}


@pytest.fixture
def house(jobs_table: Jobs, tmp_path: Path) -> House:
    """Empty tables and an empty storage."""
    return House(jobs_table, Storage(tmp_path.as_uri()))


@pytest.fixture
def retain(house: House, database_url: str) -> Iterator[Callable[..., None]]:
    """One step of retention."""
    store = Store(database_url, threads=1)

    def step(*, files_days: int = 30, artifacts_days: int = 30, orphan_s: float = 3600) -> None:
        Retention(
            store, house.storage, files_days=files_days, artifacts_days=artifacts_days, orphan_s=orphan_s
        ).step()

    yield step
    store.close()


def finished(table: Jobs) -> UUID:
    """A job that has ended."""
    job_id = table.add()
    table.set(job_id, state="cancelled", finished_at=text("now()"))
    return job_id


def test_what_is_old_is_removed(house: House, retain: Callable[..., None]) -> None:
    job = finished(house.table)
    old = {house.artifact(job, days=31), house.file(days=31)}
    new = {house.artifact(job, days=29), house.file(days=29)}
    retain()
    assert house.rows() == new == house.left("artifacts") | house.left("files")
    assert not old & new
    retain(files_days=0, artifacts_days=0)
    assert house.rows() == new


def test_nothing_of_a_job_that_has_not_ended_is_removed(house: House, retain: Callable[..., None]) -> None:
    file = house.file(days=90)
    job = house.table.add(files=[{"name": "a", "size": 1, "sha256": "", "file": str(file)}])
    kept = {house.artifact(job, days=90), file}
    for state in ("queued", "running"):
        house.table.set(job, state=state, lease_token=uuid4() if state == "running" else None)
        retain(orphan_s=0)
        assert house.rows() == kept == house.left("artifacts") | house.left("files")
    house.table.set(job, state="finished", verdict="ok", finished_at=text("now()"), lease_token=None)
    retain()
    assert house.rows() == set() == house.left("artifacts") | house.left("files")


def test_what_nobody_recorded_is_removed_when_it_is_old(house: House, retain: Callable[..., None]) -> None:
    job = finished(house.table)
    orphans = {house.artifact(job, row=False), house.file(row=False)}
    kept = {house.artifact(job), house.file()}
    retain()
    assert house.left("artifacts") | house.left("files") == orphans | kept
    retain(orphan_s=-60)
    assert house.left("artifacts") | house.left("files") == kept


def test_a_deleted_jobs_artifacts_go_with_it(house: House, retain: Callable[..., None]) -> None:
    job = finished(house.table)
    house.artifact(job)
    with house.table.engine.connect() as connection:
        connection.execute(text("DELETE FROM jobs"))
    retain(orphan_s=-60)
    assert house.left("artifacts") == set()


def test_what_is_not_ours_is_left_alone(house: House, retain: Callable[..., None]) -> None:
    put(house.storage, "artifacts/README", b"by hand")
    put(house.storage, "elsewhere/x", b"by hand")
    retain(orphan_s=-60)
    assert [each.key for page in house.storage.pages("artifacts") for each in page] == ["artifacts/README"]
    assert b"".join(house.storage.read("elsewhere/x")) == b"by hand"


def test_only_one_process_removes_at_a_time(
    house: House, retain: Callable[..., None], database_url: str
) -> None:
    house.artifact(finished(house.table), row=False)
    other = Store(database_url, threads=1)
    with RetentionStore(other).alone_in_retention() as alone:
        assert alone
        retain(orphan_s=-60)
        assert len(house.left("artifacts")) == 1
    other.close()
    retain(orphan_s=-60)
    assert house.left("artifacts") == set()
