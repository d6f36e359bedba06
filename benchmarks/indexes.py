"""`python -m benchmarks.indexes`: what the indexes for search cost each job, and what room they take.

The same jobs are stored, claimed and finished in turns, with and without these indexes, in one database of
50,000 jobs; commits are grouped, so that the disk's time does not hide the difference.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, insert, text

from benchmarks.filling import fill, stored
from benchmarks.machine import revision
from benchmarks.run import RESULTS, ROOT
from benchmarks.stats import percentile
from domain.ids import new_id
from domain.tables.caller import callers
from domain.tables.job import jobs
from retort.embedded import Postgres

#: Those that are for reading alone.
SEARCH = ("ix_jobs_search", "ix_jobs_tasks")

_CLAIM = text(
    "UPDATE jobs SET state = 'running', claims = claims + 1, lease_token = id, lease_until = now(), "
    "leased_by = 'bench', started_at = now() WHERE id = :id"
)
_FINISH = text(
    "UPDATE jobs SET state = 'finished', verdict = 'ok', lease_token = NULL, lease_until = NULL, "
    "leased_by = NULL, finished_at = now() WHERE id = :id"
)
_LEFT_OUT = ("state", "verdict", "started_at", "finished_at", "batch_id", "batch_index", "created_at", "reason")


def definitions(connection: Connection) -> dict[str, str]:
    """What makes each of the indexes."""
    found = connection.execute(
        text("SELECT indexname, indexdef FROM pg_indexes WHERE indexname = ANY(:names)"),
        {"names": list(SEARCH)},
    )
    return {row.indexname: row.indexdef for row in found}


def sizes(connection: Connection) -> dict[str, int]:
    """Bytes of the jobs, and of each of their indexes."""
    found = connection.execute(
        text(
            "SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class "
            "WHERE relname LIKE '%jobs%' AND relkind IN ('r', 'i')"
        )
    )
    return {row.relname: row.bytes for row in found}


def compare(engine: Engine, caller_id: UUID, rounds: int, each: int) -> dict[str, list[float]]:
    """Microseconds for each job of each round, with and without."""
    times: dict[str, list[float]] = {"with": [], "without": []}
    rows = ({**job, "id": new_id()} for job, _, _ in stored(caller_id, 10**9))
    with engine.connect() as connection:
        made = definitions(connection)
        for number in range(2 * rounds):
            which = "with" if number % 2 == 0 else "without"
            fresh = [
                {name: value for name, value in row.items() if name not in _LEFT_OUT}
                for row in islice(rows, each)
            ]
            with connection.begin_nested() as trial:
                if which == "without":
                    for name in made:
                        connection.execute(text(f"DROP INDEX {name}"))
                times[which].append(_within(connection, fresh))
                trial.rollback()
            connection.rollback()
    return times


def _within(connection: Connection, rows: Sequence[dict[str, Any]]) -> float:
    began = time.perf_counter()
    connection.execute(insert(jobs), list(rows))
    ids = [{"id": row["id"]} for row in rows]
    for step in (_CLAIM, _FINISH):
        connection.execute(step, ids)
    return (time.perf_counter() - began) / len(rows) * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.indexes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs: to see that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    chosen = parser.parse_args(arguments)
    count, rounds, each = (2_000, 2, 200) if chosen.quick else (50_000, 6, 500)
    with tempfile.TemporaryDirectory(prefix="retort-indexes-") as folder:
        server = Postgres(Path(folder, "data"), Path(folder, "run"))
        server.start()
        try:
            engine = create_engine(server.url)
            config = Config(ROOT / "migrations" / "alembic.ini")
            with engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            caller_id = new_id()
            with engine.begin() as connection:
                connection.execute(insert(callers), {"id": caller_id, "name": "bench"})
            fill(engine, count)
            times = compare(engine, caller_id, rounds, each)
            with engine.connect() as connection:
                room = sizes(connection)
            engine.dispose()
        finally:
            server.stop()
    figures = {which: percentile(found, 50) for which, found in times.items()}
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(ROOT),
        "jobs": count,
        "us_per_job": figures,
        "rounds": times,
        "bytes": room,
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    name = "indexes.trial.json" if chosen.quick else "indexes.json"
    (chosen.output / name).write_text(json.dumps(result, indent=2) + "\n")
    for which, found in figures.items():
        rate = f"{found or 0:.0f} us, {1e6 / (found or 1):.0f} a second"
        print(f"store, claim and finish a job, {which} {' and '.join(SEARCH)}: {rate}")
    for index, taken in sorted(room.items(), key=lambda pair: -pair[1]):
        print(f"{index:<32}{taken / 1e6:>8.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
