"""A database with many jobs in it, as a caller has them who was busy for two days."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, insert, select, text

from domain.limits import load_profiles
from domain.tables.attempt import attempts, model_calls
from domain.tables.caller import callers
from domain.tables.job import batches, jobs

#: How long ago the oldest job was submitted.
SPAN = timedelta(days=2)
#: Jobs of the one batch, if there are as many.
BATCH = 10_000
#: One of so many is a task; and a few are unlike all others.
TASKS = 20
RARE = 25_000

_VERDICTS = ("ok",) * 17 + ("error", "timeout", "out_of_memory")
_LANGUAGES = ("python",) * 8 + ("javascript", "bash")
_MODELS = ("gpt-4.1", "sonnet-4", "haiku-4")
_LINES = tuple(
    f"value_{n} = compute(value_{n - 1}, step={n})  # as other programs have it\n" for n in range(1, 60)
)

Row = dict[str, Any]


def id_of(at: datetime, tail: int) -> UUID:
    """A UUIDv7 of this moment."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62 | tail)


def stored(caller_id: UUID, count: int, batch_id: UUID | None = None) -> Iterator[tuple[Row, Row, Row | None]]:
    """Jobs that have ended, oldest first, each with its attempt and, of a task, the call of a model."""
    dice = random.Random(1)  # noqa: S311 (no secret)
    limits = load_profiles()["standard"].defaults.as_dict()
    now = datetime.now(UTC)
    for number in range(count):
        at = now - SPAN * (1 - number / count)
        job_id = id_of(at, dice.getrandbits(62))
        rare, task = number % RARE == 77, number % TASKS == 0
        waited, took = timedelta(seconds=dice.expovariate(50)), timedelta(seconds=dice.expovariate(20))
        verdict = "disk_limit" if rare else dice.choice(_VERDICTS)
        model = dice.choice(_MODELS) if task else None
        code = "".join(dice.sample(_LINES, 8)) + f"print({number})\n"
        job = {
            "id": job_id,
            "caller_id": caller_id,
            "code": None if task else code,
            "task": f"Add the numbers of table {number} and print the sum." if task else None,
            "language": "rust" if rare else dice.choice(_LANGUAGES),
            "profile": "standard",
            "limits": limits,
            "labels": {"team": "rare"} if rare else {"team": dice.choice("abc")},
            "state": "finished",
            "verdict": verdict,
            "reason": "needle in the haystack" if rare else None,
            "model": model,
            "batch_id": batch_id if number < BATCH else None,
            "batch_index": number if batch_id is not None and number < BATCH else None,
            "created_at": at,
            "started_at": at + waited,
            "finished_at": at + waited + took,
        }
        attempt = {
            "job_id": job_id,
            "number": 1,
            "code": code if task else None,
            "verdict": verdict,
            "stdout": b"x" * 200,
            "wall_s": took.total_seconds(),
            "sandbox_start": "warm",
            "sandbox_start_s": dice.expovariate(1000),
        }
        yield job, attempt, _call(job, dice) if task else None


def _call(job: Row, dice: random.Random) -> Row:
    return {
        "id": id_of(job["created_at"], dice.getrandbits(62)),
        "job_id": job["id"],
        "round": 1,
        "gateway": "default",
        "model": job["model"],
        "prompt": {"system": "s" * 2000, "messages": [{"role": "user", "content": job["task"]}]},
        "parameters": {},
        "answer": "a" * 500,
        "input_tokens": 900,
        "output_tokens": 300,
        "cost_usd": "0.0042",
        "latency_s": dice.expovariate(0.5),
        "created_at": job["created_at"],
    }


def fill(engine: Engine, count: int) -> UUID:
    """Store the jobs of the only caller there is; the id of the batch of the first of them."""
    batch_id = id_of(datetime.now(UTC) - SPAN, 1)
    with engine.begin() as connection:
        caller_id = connection.execute(select(callers.c.id)).scalars().one()
        row = {"id": batch_id, "caller_id": caller_id, "name": "large", "total": min(count, BATCH)}
        connection.execute(insert(batches), row)
    rows = stored(caller_id, count, batch_id)
    while portion := list(islice(rows, 5000)):
        with engine.begin() as connection:
            connection.execute(insert(jobs), [job for job, _, _ in portion])
            connection.execute(insert(attempts), [attempt for _, attempt, _ in portion])
            connection.execute(insert(model_calls), [call for _, _, call in portion if call is not None])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return batch_id
