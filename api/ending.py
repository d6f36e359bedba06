"""Ending jobs, and removing what they left, as single jobs and batches have it in common."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import psycopg

from api.database import AlreadyStored
from api.services import Services
from domain.bell import queue_of
from domain.endings import CANCEL
from domain.files import artifact_key
from domain.states import LEASED_STATES
from storage.store import StorageError

log = logging.getLogger(__name__)


async def cancel_job(services: Services, caller_id: UUID, job_id: UUID, reason: str) -> None:
    """Cancel a job that has not ended, and tell those who should know; of another one nothing happens."""
    values = {"b_id": job_id, "b_caller_id": caller_id, "b_reason": reason}
    try:
        won: Any = await services.database.hot(CANCEL, values)
    except (psycopg.errors.UniqueViolation, AlreadyStored):
        # Somebody recorded an attempt after this statement began: it numbers the next one now.
        won = await services.database.hot(CANCEL, values)
    if won is None:
        return
    leased = won.was in LEASED_STATES
    await services.teller.cancelled(job_id, was_leased=leased)
    if leased:
        # Its caller may run another one now; a bell does not say which.
        services.bell.ring(job_id, queue_of(won.next_state, won.priority, won.runtime))


async def forget_artifacts(services: Services, ids: Iterable[UUID]) -> None:
    """Remove the contents of artifacts whose rows are gone."""
    try:
        for artifact in ids:
            await asyncio.to_thread(services.storage.delete, artifact_key(artifact))
    except StorageError as error:
        # Nobody finds them any more; workers look for what has no row, and remove it.
        log.warning("artifacts of deleted jobs are left to clean-up: %s", error)
