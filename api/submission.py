"""Storing a job that passed the intake: quotas, the insert, and the bell."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from api.auth import Caller
from api.database import AlreadyStored
from api.inputs import Inputs, Uploads, check_inputs, uploads_of
from api.intake import Wanted
from api.once import EARLIER, Earlier, Once, insert_columns_once
from api.problems import Problem, unavailable
from api.quotas import within_ceilings
from api.services import Services
from api.statements import CREATED_AT
from domain.bell import queue_of
from domain.job_statements import INSERT_JOB
from domain.states import Priority
from domain.tables.job import jobs


@dataclass(frozen=True, slots=True)
class Stored:
    """A job that is stored: by this request, or by an earlier one with the same key."""

    job_id: UUID
    row: dict[str, Any]
    created_at: datetime | None  # None: replayed
    given: Sequence[Mapping[str, Any]] = ()  # its files


async def store(
    services: Services, caller: Caller, wanted: Wanted, job_id: UUID, once: Once | None, **more: Any
) -> Stored:
    """Store a job under the given id and ring for it; `more` are further columns.

    Raises:
        Problem: 422 it is over a ceiling of the caller's, 429 or 503 there is no room for it.
    """
    wanted = within_ceilings(caller.quotas, wanted, services.intake.profiles[wanted.request.profile])
    row, given = {**wanted.row(), **more}, []
    if wanted.request.files:
        known = await uploads_of(wanted.request.files, services.database, caller.id)
        inputs = inputs_of(wanted, known)
        row, given = row | inputs.row(), inputs.given
    try:
        await services.seconds.check(caller)
        async with services.room.entering(caller, Priority(row["priority"])):
            stored = await insert(services, caller, {"id": job_id, "caller_id": caller.id, **row}, once)
    except Problem:
        # What is there already needs no room.
        earlier = None if once is None else await made_by(services, caller, once)
        if once is None or earlier is None:
            raise
        return Stored(earlier.check(once), row, None)
    if isinstance(stored, Earlier):
        assert once is not None  # noqa: S101 (without a key there is nothing earlier)
        return Stored(stored.check(once), row, None)
    services.bell.ring(job_id, queue_of(row["next_state"], row["priority"], row["runtime"]))
    return Stored(job_id, row, stored, given)


def inputs_of(wanted: Wanted, known: Uploads) -> Inputs:
    """The files of a job that passed the intake.

    Raises:
        Problem: 422.
    """
    return check_inputs(
        wanted.request.files,
        program=wanted.language.program,
        limits=wanted.profile.files,
        most_bytes=wanted.most_input_bytes,
        known=known,
    )


async def insert(
    services: Services, caller: Caller, row: dict[str, Any], once: Once | None
) -> datetime | Earlier:
    """Insert a row of `jobs`: when, or what its key made before."""
    if once is None:
        statement, parameters = INSERT_JOB, row
    else:
        statement = insert_columns_once(jobs, tuple(row), ("created_at",))
        parameters = {
            **{f"b_{name}": value for name, value in row.items()},
            **once.parameters(caller.id, services.settings.idempotency_hours),
        }
    # Where a connection dies during the insert it is tried again, and may find that the first try was stored.
    with suppress(AlreadyStored):
        stored = await services.database.hot(statement, parameters)
        if stored is not None:
            return _when(stored)
    if once is not None:
        earlier = await made_by(services, caller, once)
        if earlier is not None and earlier.made != row["id"]:
            return earlier
    mine = await services.database.hot(CREATED_AT, {"id": row["id"], "caller_id": caller.id})
    if mine is None:  # the key expired, and was swept, at this very moment
        raise unavailable("nothing was stored, try again")
    return _when(mine)


def _when(row: Any) -> datetime:
    at: datetime = row.created_at
    return at


async def made_by(services: Services, caller: Caller, once: Once) -> Earlier | None:
    """What a key made before, if it made anything."""
    found = await services.database.hot(EARLIER, {"o_caller_id": caller.id, "o_key": once.key})
    return None if found is None else Earlier(found.made, bytes(found.fingerprint))
