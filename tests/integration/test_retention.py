"""Jobs that are kept for the days that quotas say, and then removed with all that is kept of them."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text

from domain.files import artifact_key
from domain.ids import id_at, new_id
from domain.tables.attempt import artifacts, attempts, model_calls
from domain.tables.cache import execution_cache, response_cache
from domain.tables.caller import callers, files, idempotency_keys
from domain.tables.job import batches, jobs
from domain.tables.usage import past_usage
from storage.store import Storage
from tests.harness import Jobs
from worker.retention import Retention
from worker.store import Store

OF_JOBS = (jobs, attempts, artifacts, model_calls, execution_cache, response_cache)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return Storage(tmp_path.as_uri())


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A worker's."""
    opened = Store(database_url, threads=1)
    yield opened
    opened.close()


def retain(store: Store, storage: Storage, jobs_days: int = 0) -> None:
    """One step."""
    Retention(store, storage, files_days=0, artifacts_days=0, jobs_days=jobs_days).step()


def caller(table: Jobs, days: int | None) -> UUID:
    """A caller whose jobs are kept for so long."""
    made = new_id()
    quotas = {} if days is None else {"retention_days": days}
    with table.engine.connect() as connection:
        connection.execute(insert(callers), {"id": made, "name": str(made), "quotas": quotas})
    return made


def job(table: Jobs, storage: Storage, caller_id: UUID, days: int, **values: Any) -> UUID:
    """A job that was made, and has ended unless told otherwise, so many days ago; with all it may have."""
    past = text(f"now() - interval '{days} days'")
    made = UUID(int=id_at(datetime.now(UTC) - timedelta(days=days)).int | (uuid4().int % 2**60))
    usual = {"state": "finished", "verdict": "ok", "created_at": past, "finished_at": past}
    table.add(id=made, caller_id=caller_id, **{**usual, **values})
    of_job = {"job_id": made}
    kept = {**of_job, "caller_id": caller_id, "key": made.bytes}
    left = new_id()
    call = {"id": new_id(), "round": 1, "gateway": "g", "model": "m", "prompt": {}, "parameters": {}}
    with table.engine.connect() as connection:
        connection.execute(insert(attempts), {**of_job, "number": 1, "verdict": "ok", "wall_s": 2.0})
        names = {"id": left, "attempt": 1, "name": "x", "media_type": "x/y", "size": 1, "sha256": b""}
        connection.execute(insert(artifacts), {**of_job, **names})
        connection.execute(insert(model_calls), {**of_job, **call, "answer": "", "cost_usd": 3})
        connection.execute(insert(execution_cache), {**kept, "result": {}, "stdout": b"", "stderr": b""})
        connection.execute(insert(response_cache), {**kept, "answer": {}})
        once = {"caller_id": caller_id, "key": str(made), "fingerprint": b"", "made": made}
        connection.execute(insert(idempotency_keys), once)
    storage.put(artifact_key(left), io.BytesIO(b"x"))
    return made


def rows(table: Jobs, which: Any) -> set[UUID]:
    """The jobs that something is kept of."""
    column = which.c.id if which is jobs else which.c.job_id
    with table.engine.connect() as connection:
        return set(connection.execute(select(column)).scalars())


def count(table: Jobs, which: Any) -> int:
    """Rows of a table."""
    with table.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(which)).scalar_one())


def contents(storage: Storage) -> int:
    """Artifacts in the storage."""
    return sum(1 for page in storage.pages("artifacts") for _ in page)


def test_each_callers_own_days(jobs_table: Jobs, store: Store, storage: Storage) -> None:
    short, long, silent = caller(jobs_table, 7), caller(jobs_table, 90), caller(jobs_table, None)
    old = {who: job(jobs_table, storage, who, 30) for who in (short, long, silent)}
    new = job(jobs_table, storage, short, 6)
    retain(store, storage)
    for table in OF_JOBS:
        assert rows(jobs_table, table) == {new, old[long], old[silent]}, table.name
    assert count(jobs_table, idempotency_keys) == contents(storage) == 3
    retain(store, storage, jobs_days=29)
    assert rows(jobs_table, jobs) == {new, old[long]}
    # What was used stays in the books.
    with jobs_table.engine.connect() as connection:
        past = {
            row.caller_id: row for row in connection.execute(select(past_usage).where(past_usage.c.runs > 0))
        }
    assert set(past) == {short, silent}
    assert (past[short].wall_s, past[short].cost_usd) == (2, 3)


@pytest.mark.parametrize("state", ["queued", "running", "generating"])
def test_what_has_not_ended_stays_however_old(
    jobs_table: Jobs, store: Store, storage: Storage, state: str
) -> None:
    """Also what ended lately stays, however long ago it was made."""
    who = caller(jobs_table, 1)
    token = None if state == "queued" else uuid4()
    waits = {"state": state, "verdict": None, "finished_at": None, "lease_token": token}
    unfinished = job(jobs_table, storage, who, 400, **waits)
    lately = job(jobs_table, storage, who, 400, finished_at=text("now()"))
    retain(store, storage)
    assert rows(jobs_table, jobs) == {unfinished, lately}
    assert contents(storage) == 2


def test_batches_go_when_their_last_job_did_and_files_by_themselves(
    jobs_table: Jobs, store: Store, storage: Storage
) -> None:
    who = caller(jobs_table, 7)
    past = text("now() - interval '8 days'")
    ids = {"gone": new_id(), "half": new_id(), "young": new_id()}
    with jobs_table.engine.connect() as connection:
        for name, batch_id in ids.items():
            made = {} if name == "young" else {"created_at": past}
            connection.execute(insert(batches).values(id=batch_id, caller_id=who, total=2, **made))
        file = {"id": new_id(), "caller_id": who, "name": "x", "size": 1, "sha256": b""}
        connection.execute(insert(files).values(**file, created_at=past))
    for index, (name, days) in enumerate([("gone", 8), ("gone", 8), ("half", 8), ("half", 1)]):
        job(jobs_table, storage, who, days, batch_id=ids[name], batch_index=index)
    retain(store, storage)
    with jobs_table.engine.connect() as connection:
        assert set(connection.execute(select(batches.c.id)).scalars()) == {ids["half"], ids["young"]}
    assert count(jobs_table, files) == 0
    assert count(jobs_table, jobs) == 1


def test_more_than_one_statement_removes(jobs_table: Jobs, store: Store, storage: Storage) -> None:
    who = caller(jobs_table, 1)
    past = datetime.now(UTC) - timedelta(days=3)
    first = id_at(past).int
    values: dict[str, Any] = {"caller_id": who, "state": "cancelled", "finished_at": past}
    jobs_table.add_many(jobs_table.row(id=UUID(int=first + n), **values) for n in range(1100))
    retain(store, storage)
    assert count(jobs_table, jobs) == 0
    with jobs_table.engine.connect() as connection:
        assert connection.execute(select(func.sum(past_usage.c.jobs))).scalar_one() == 1100
