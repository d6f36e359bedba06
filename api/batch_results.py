"""What a batch is, from its rows; and the results of its jobs, one JSON document on each line."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import orjson

from api import documents
from api.database import Database
from api.statements import JOBS
from domain.batches import ENDED
from domain.states import FINAL_STATES, State

#: Jobs that are looked up at once, and about how many bytes of them are read at once.
_LOOKED_UP = 200
_READ_BYTES = 2 * 2**20


def batch_path(batch_id: UUID) -> str:
    """Where a batch is."""
    return f"/v1/batches/{batch_id}"


def summary(row: Any) -> documents.Document:
    """A batch as lists show it."""
    path = batch_path(row.id)
    return {
        "id": row.id,
        "name": row.name,
        "total": row.total,
        "created_at": row.created_at,
        "cancelled_at": row.cancelled_at,
        "links": {"self": path, "results": f"{path}/results", "jobs": f"/v1/jobs?batch={row.id}"},
    }


def batch(row: Any, counted: Sequence[Any]) -> documents.Document:
    """A batch and how far it is; `counted` are the rows of `COUNT`."""
    counts = dict.fromkeys((state.value for state in State), 0)
    verdicts: dict[str, int] = {}
    for each in counted:
        counts[each.state] += each.jobs
        if each.verdict is not None:
            verdicts[each.verdict] = verdicts.get(each.verdict, 0) + each.jobs
    ended = all(State(each.state) in FINAL_STATES for each in counted)
    costs = [each.cost_usd for each in counted if each.cost_usd is not None]
    return {
        **summary(row),
        "state": "ended" if ended else "running",
        "counts": {**counts, "deleted": row.total - sum(counts.values())},
        "verdicts": dict(sorted(verdicts.items())),
        "cost_usd": documents.money(sum(costs)) if costs else "0",
        "cost_complete": all(each.cost_complete for each in counted),
        "finished_at": max((each.finished_at for each in counted), default=None) if ended else None,
    }


async def results(database: Database, batch_id: UUID) -> AsyncIterator[bytes]:
    """The jobs that have ended, in the order of the batch. However many and large, few are in memory at a time,
    and no connection is held while the reader takes its time."""
    after = -1
    while True:
        page = {"b_batch_id": batch_id, "b_after": after, "b_most": _LOOKED_UP}
        found = await database.all(ENDED, page)
        for ids in _portions(found):
            rows = await database.all(JOBS, {"ids": ids})
            yield b"".join(
                orjson.dumps(
                    {**documents.job(row), "index": row.batch_index},
                    option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE,
                )
                for row in rows
            )
        if len(found) < _LOOKED_UP:
            return
        after = found[-1].batch_index


def _portions(found: Sequence[Any]) -> list[list[UUID]]:
    """The ids in portions that may be read at once; a job that is large by itself makes one."""
    portions: list[list[UUID]] = []
    size = 0
    for row in found:
        if not portions or size + row.bytes > _READ_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(row.id)
        size += row.bytes
    return portions
