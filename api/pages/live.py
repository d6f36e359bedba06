"""What a running program has written so far, as workers publish it; see docs/live-output.md."""

import logging
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from api import statements
from api.auth import Caller
from api.pages.ansi import ansi
from api.services import Services
from domain.bell import Output, output_key
from domain.states import State

log = logging.getLogger(__name__)

#: Entries of live output that are looked at, the newest, and bytes of a stream that are shown of them.
_ENTRIES = 64
_SHOWN = 32 * 1024


async def live_output(services: Services, caller: Caller, job_id: UUID) -> dict[str, Any]:
    """The end of each stream that the running attempt wrote, as HTML; nothing where nothing is known."""
    values = {"id": job_id, "caller_id": caller.id}
    row = await services.database.one(statements.PROGRESS, values)
    if row is None or row.state != State.RUNNING:
        return {}
    try:
        entries: Any = await services.redis.xrevrange(output_key(job_id), count=_ENTRIES)
    except (RedisError, OSError, TimeoutError):
        return {}
    streams: dict[str, bytes] = {}
    for _, fields in reversed(entries):
        try:
            part = Output.parse(fields)
        except ValueError:
            log.warning("live output that is not ours", extra={"job_id": str(job_id)})
            continue
        if part.attempt == row.claims:
            streams[part.stream] = streams.get(part.stream, b"") + part.data
    return {name: ansi(data[-_SHOWN:].decode("utf-8", "replace")) for name, data in sorted(streams.items())}
