"""The service under fuzz: a served API, and a stand-in for workers that ends every job within moments.

Programs do not run: what is tried is the HTTP contract. So that it stays worth trying, what requests may
do to their own key and caller (revoke it, take its quotas) is undone as quickly.
"""

import random
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select, text

from domain.quotas import Scope
from domain.tables.job import jobs
from tests.integration.api.harness import Server, Store

CALLER = "fuzz"
MODELS = ("gpt-4.1", "deepseek-v3.2")
_EVERY_S = 0.05
_RESTORE = (
    "UPDATE api_keys SET revoked_at = NULL, expires_at = NULL WHERE id = :key AND "
    "(revoked_at IS NOT NULL OR expires_at IS NOT NULL)",
    "UPDATE callers SET quotas = '{}', most_running = NULL WHERE name = :caller "
    "AND (quotas <> '{}' OR most_running IS NOT NULL)",
    # Room for more: of webhooks a caller may have only so many.
    "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks ORDER BY id DESC OFFSET 500)",
)


class Fuzzed:
    """See the module. `close` ends it."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self._store = Store(database_url, redis_url)
        self._store.serve_models(*MODELS)
        self.key = self._store.key(CALLER, tuple(Scope))
        self.server = Server(
            folder / "api.log",
            database_url,
            redis_url,
            requests_per_s="0",
            refusals_per_s="100000",
            max_queued="0",
            max_queued_per_caller="0",
            max_wait_s="1",
            max_webhooks="100000",
            webhook_key="a key for the secrets of webhooks, in tests alone",
            storage_url=(folder / "storage").as_uri(),
        )
        self._rng = random.Random(1)  # noqa: S311 (seeded on purpose)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="tend", daemon=True)
        with self._store.engine.begin() as connection:
            self._key_id = connection.execute(text("SELECT id FROM api_keys")).scalar_one()
        self._thread.start()

    def close(self) -> None:
        """End everything."""
        self._stop.set()
        self._thread.join(30)
        self.server.stop()
        self._store.close()

    def requests(self) -> list[dict[str, Any]]:
        """A line of the log for each request that was answered."""
        return [line for line in self.server.lines() if line["logger"] == "api.access"]

    def _tend(self) -> None:
        while not self._stop.wait(_EVERY_S):
            with self._store.engine.begin() as connection:
                for statement in _RESTORE:
                    connection.execute(text(statement), {"key": self._key_id, "caller": CALLER})
                waiting = connection.execute(
                    select(jobs.c.id, jobs.c.code).where(jobs.c.state == "queued").limit(500)
                ).all()
            for job_id, code in waiting:
                self._end(job_id, runs=code is not None)

    def _end(self, job_id: UUID, *, runs: bool) -> None:
        lucky = self._rng.random()
        if runs and lucky < 0.8:
            try:
                self._store.finish(
                    job_id,
                    verdict=self._rng.choice(["ok", "error", "timeout"]),
                    stdout=self._rng.choice([b"", b"1\n", b"\xff\x00", "é".encode() * 50]),
                )
            except AssertionError:  # it was cancelled meanwhile
                return
        else:
            with self._store.engine.begin() as connection:
                connection.execute(
                    text(
                        "UPDATE jobs SET state = 'broken', reason = 'not run', finished_at = now() "
                        "WHERE id = :id AND state = 'queued'"
                    ),
                    {"id": job_id},
                )
