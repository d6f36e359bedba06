"""Storing a batch: each line passes what a single job does, then all are stored in one transaction, or none."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Caller
from api.batch_lines import Line, at
from api.database import AlreadyStored
from api.inputs import uploads_of
from api.intake import Wanted
from api.once import Once, insert_columns_once
from api.problems import FieldError, Kind, Problem, invalid, unavailable
from api.quotas import within_ceilings
from api.services import Services
from api.submission import inputs_of, made_by
from domain.batches import GET_BATCH, INSERT_BATCH, insert_jobs
from domain.bell import queue_of
from domain.ids import new_id
from domain.states import Priority
from domain.tables.job import batches

#: Wrong lines that are told of; what is behind them is not looked at.
_MOST_ERRORS = 20

#: Lines that are checked without a pause, 1 ms of work: others wait for it.
_AT_ONCE = 16

#: Rows of one statement, and about how many bytes of JSON they may be.
_ROWS = 1000
_CHUNK_BYTES = 4 * 2**20

#: Workers are rung for as many jobs; they ring for the others as the queue gets short.
_MOST_RINGS = 1000


@dataclass(slots=True)
class Gathered:
    """The jobs of a batch as they will be stored: each row as JSON, and on which queue to ring for it."""

    batch_id: UUID
    rows: list[bytes] = field(default_factory=list)
    rings: list[tuple[UUID, str]] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)

    def add(self, caller_id: UUID, row: dict[str, Any]) -> dict[str, Any]:
        """One more, in the next place; its row with what makes it one of this batch."""
        job_id = new_id()
        whole = row | {
            "id": job_id,
            "caller_id": caller_id,
            "batch_id": self.batch_id,
            "batch_index": len(self.rows),
        }
        self.rows.append(b"")
        self.put(whole)
        if len(self.rings) < _MOST_RINGS:
            self.rings.append((job_id, queue_of(row["next_state"], row["priority"], row["runtime"])))
        return whole

    def put(self, row: dict[str, Any]) -> None:
        """Keep a row in its place."""
        self.columns |= dict.fromkeys(row)
        self.rows[row["batch_index"]] = orjson.dumps(row, default=_plain)

    def chunks(self) -> Iterator[str]:
        """The rows as JSON arrays, for one statement each."""
        chunk: list[bytes] = []
        size = 0
        for row in self.rows:
            if chunk and (len(chunk) == _ROWS or size + len(row) > _CHUNK_BYTES):
                yield _array(chunk)
                chunk, size = [], 0
            chunk.append(row)
            size += len(row)
        yield _array(chunk)


def _array(rows: list[bytes]) -> str:
    return (b"[" + b",".join(rows) + b"]").decode()


def _plain(value: Any) -> str:
    """Values that JSON has not, as PostgreSQL reads them."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(type(value))


async def gather(
    services: Services, caller: Caller, lines: AsyncIterator[Line], digest: Any | None
) -> Gathered:
    """Check all lines; `digest`, if given, is fed with what they say.

    Raises:
        Problem: 422 with what is wrong in the first lines that are, 503 as for a single job.
    """
    gathered = Gathered(new_id())
    with_files: list[tuple[str, Wanted, dict[str, Any]]] = []
    wrong: list[FieldError] = []
    async for where, body in lines:
        if digest is not None:
            digest.update(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
        try:
            wanted = await _wanted(services, caller, body)
        except Problem as problem:
            told = at(where, problem)
            if told.kind is not Kind.INVALID:
                raise told from None
            wrong += told.errors
            if len(wrong) >= _MOST_ERRORS:
                raise invalid(*wrong[:_MOST_ERRORS]) from None
            continue
        row = gathered.add(caller.id, wanted.row())
        if wanted.request.files:
            with_files.append((where, wanted, row))
        if len(gathered.rows) % _AT_ONCE == 0:
            await asyncio.sleep(0)
    if wrong:
        raise invalid(*wrong)
    await _put_files(services, caller, with_files, gathered)
    return gathered


async def _wanted(services: Services, caller: Caller, body: dict[str, Any]) -> Wanted:
    if body.get("priority", Priority.BATCH.value) != Priority.BATCH.value:
        allowed = [Priority.BATCH.value]
        raise invalid(FieldError("priority", "is not one that jobs of a batch have", allowed))
    intake = services.intake
    wanted = intake.check({**body, "priority": Priority.BATCH.value}, caller.runtime)
    if wanted.task is not None:
        intake.tasks.served(wanted.task, await services.serving.models())
    return within_ceilings(caller.quotas, wanted, intake.profiles[wanted.request.profile])


async def _put_files(
    services: Services,
    caller: Caller,
    with_files: list[tuple[str, Wanted, dict[str, Any]]],
    gathered: Gathered,
) -> None:
    """Check the files of all jobs; one look for all that were uploaded."""
    if not with_files:
        return
    named = (file for _, wanted, _ in with_files for file in wanted.request.files)
    known = await uploads_of(named, services.database, caller.id)
    for where, wanted, row in with_files:
        try:
            files = inputs_of(wanted, known).row()
        except Problem as problem:
            raise at(where, problem) from None
        gathered.put({**row, **files, "files": orjson.Fragment(files["files"])})
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch that is stored; `created_at` is None where an earlier request with the same key did that."""

    batch_id: UUID
    created_at: datetime | None


async def store_batch(
    services: Services, caller: Caller, name: str | None, gathered: Gathered, once: Once | None
) -> StoredBatch:
    """Store all jobs or none, and ring for them.

    Raises:
        Problem: 429 or 503, there is no room for all of them; 422 the key made another batch.
    """
    try:
        await services.seconds.check(caller)
        async with services.room.entering(caller, Priority.BATCH, len(gathered.rows)):
            created_at = await _insert(services, caller, name, gathered, once)
    except Problem:
        # What is there already needs no room.
        earlier = None if once is None else await made_by(services, caller, once)
        if once is None or earlier is None:
            raise
        return StoredBatch(earlier.check(once), None)
    if created_at is None:
        assert once is not None  # noqa: S101 (without a key there is nothing earlier)
        earlier = await made_by(services, caller, once)
        if earlier is None:
            raise unavailable("nothing was stored, try again")
        return StoredBatch(earlier.check(once), None)
    for job_id, queue in gathered.rings:
        services.bell.ring(job_id, queue)
    return StoredBatch(gathered.batch_id, created_at)


async def _insert(
    services: Services, caller: Caller, name: str | None, gathered: Gathered, once: Once | None
) -> datetime | None:
    """When it was stored; None where the key has made a batch before."""
    values = {"id": gathered.batch_id, "caller_id": caller.id, "name": name, "total": len(gathered.rows)}
    parameters = {f"b_{name}": value for name, value in values.items()}
    statement = INSERT_BATCH
    if once is not None:
        statement = insert_columns_once(batches, tuple(values), ("created_at",))
        parameters |= once.parameters(caller.id, services.settings.idempotency_hours)
    fill = insert_jobs(tuple(sorted(gathered.columns)))

    async def store(connection: AsyncConnection) -> datetime | None:
        made = (await connection.execute(statement, parameters)).first()
        if made is None:
            return None
        for chunk in gathered.chunks():
            await connection.execute(fill, {"rows": chunk})
        at: datetime = made.created_at
        return at

    try:
        return await services.database.together(store)
    except AlreadyStored:  # its connection died after all was stored
        own = {"b_id": gathered.batch_id, "b_caller_id": caller.id}
        row = await services.database.one(GET_BATCH, own)
        return None if row is None else row.created_at
