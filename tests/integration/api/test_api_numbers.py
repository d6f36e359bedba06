"""Numbers of jobs and of usage, by HTTP: each against rows that were put there by hand."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, insert, text, update

from domain.ids import new_id
from domain.quotas import Scope
from domain.tables.attempt import attempts, model_calls
from domain.tables.job import jobs
from tests.integration.api.harness import Server, Store
from tests.integration.api.ledger import Ledger

Connect = Callable[..., httpx.Client]


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text)))


def _after(seconds: float) -> Any:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


class Book(Ledger):
    """Jobs with known numbers."""

    def job(self, *verdicts: str, total_s: float = 4, **values: Any) -> UUID:
        """A job with an attempt of 1 s for each of these verdicts, the last of which is its own."""
        job_id = new_id()
        usual: dict[str, Any] = {
            **self.job_row(job_id),
            "verdict": verdicts[-1] if verdicts else None,
            **values,
        }
        if "task" in usual:
            usual["code"] = None
        if usual["state"] != "queued":
            usual |= {"started_at": _after(1), "finished_at": _after(total_s)}
        with self.store.engine.begin() as connection:
            connection.execute(insert(jobs).values(usual))
            for number, verdict in enumerate(verdicts, 1):
                start = {"sandbox_start": "cold" if number == 1 else "warm", "sandbox_start_s": 0.25}
                ran = {"wall_s": 1.0, "cpu_s": 0.5, "verdict": verdict, **start}
                connection.execute(insert(attempts), {"job_id": job_id, "number": number, **ran})
        return job_id

    def call(self, job_id: UUID, cost: str | None, **values: Any) -> None:
        """A question to a model."""
        row = self.call_row(job_id, cost)
        with self.store.engine.begin() as connection:
            connection.execute(insert(model_calls), {**row, **values})
            added = jobs.c.cost_usd + (row["cost_usd"] or 0)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(cost_usd=added))


@pytest.fixture
def book(store: Store, key: str) -> Book:
    """Alice's."""
    return Book(store, "alice")


def test_no_jobs_no_numbers(client: httpx.Client) -> None:
    found = client.get("/v1/stats", params={"by": "model,time"}).json()
    assert found["rows"] == []
    total = found["total"]
    assert (total["jobs"], total["success_rate"], total["queue_s"], total["cost_usd"]) == (0, None, None, "0")
    assert found["latest"] == {"jobs": 0, "avg_total_s": None}
    assert client.get("/v1/usage").json()["usage"] == []


def test_stats(client: httpx.Client, book: Book, store: Store) -> None:
    book.job("ok")
    book.job("error", total_s=8)
    task = book.job("error", "ok", task="t", model="opus-4", language="r")
    book.call(task, "0.03")
    book.call(task, None, cache_hit=True)
    book.job("error", "timeout", language="r")
    book.job(state="broken")
    book.job(state="cancelled")
    book.job(state="queued")
    store.key("mallory")
    Book(store, "mallory").job("ok")
    found = client.get("/v1/stats").json()
    total = found["total"]
    counts = ("jobs", "unfinished", "cancelled", "broken", "succeeded", "failed")
    assert [total[name] for name in counts] == [7, 1, 1, 1, 2, 2]
    assert total["success_rate"] == 0.4
    assert total["queue_s"] == {"avg": 1, "p50": 1, "p95": 1, "p99": 1}
    assert total["total_s"] == {"avg": 5, "p50": 4, "p95": 7.4, "p99": 7.88}
    assert total["run_s"] == {"avg": 1.5, "p50": 1.5, "p95": 2, "p99": 2}
    assert total["start_s"]["p99"] == 0.5
    assert (total["cold_starts"], total["warm_starts"]) == (4, 2)
    assert (total["model_calls"], total["cached_answers"]) == (2, 1)
    assert (total["input_tokens"], total["output_tokens"]) == (200, 20)
    assert (total["cost_usd"], total["cost_per_success_usd"]) == ("0.03", "0.015")
    assert (total["first_failed"], total["recovered"], total["recovery_rate"]) == (3, 1, 0.3333)
    assert found["latest"] == {"jobs": 4, "avg_total_s": 5}
    assert found["estimated_monthly_usd"] == "0.9"  # of one day
    assert (found["bucket"], found["rows"]) == ("hour", [])


def test_stats_in_groups(client: httpx.Client, book: Book) -> None:
    for verdict, language in [("ok", "r"), ("ok", "r"), ("error", "r"), ("ok", "python")]:
        book.job(verdict, language=language)
    found = client.get("/v1/stats", params={"by": "language,verdict"}).json()
    assert found["by"] == ["language", "verdict"]
    assert [(row["language"], row["verdict"], row["jobs"]) for row in found["rows"]] == [
        ("python", "ok", 1),
        ("r", "error", 1),
        ("r", "ok", 2),
    ]
    assert found["total"]["jobs"] == 4
    day = client.get("/v1/stats", params={"by": "time", "bucket": "day"}).json()["rows"]
    assert sum(row["jobs"] for row in day) == 4
    assert all(row["time"].endswith("T00:00:00Z") for row in day)
    flat = rows(client.get("/v1/stats", params={"by": "language", "format": "csv"}))
    assert [(row["language"], row["jobs"], row["succeeded"]) for row in flat] == [
        ("python", "1", "1"),
        ("r", "3", "2"),
    ]
    assert (flat[0]["total_s_p95"], flat[0]["cost_complete"], flat[0]["recovery_rate"]) == ("4.0", "true", "")
    (whole,) = rows(client.get("/v1/stats", params={"format": "csv"}))
    assert whole["jobs"] == "4"


def test_the_window_of_stats(client: httpx.Client, book: Book) -> None:
    book.job("ok")
    begin, end = (f"{datetime.now(UTC) + timedelta(days=d):%Y-%m-%dT%H:%M:%SZ}" for d in (1, 2))
    late = {"since": begin, "until": end}
    assert client.get("/v1/stats", params=late).json()["total"]["jobs"] == 0
    assert client.get("/v1/stats", params={"until": end}).json()["total"]["jobs"] == 0
    early = f"{datetime.now(UTC) - timedelta(days=40):%Y-%m-%dT%H:%M:%SZ}"
    found = client.get("/v1/stats", params={"since": early, "until": end}).json()
    assert (found["total"]["jobs"], found["bucket"]) == (1, "day")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("stats", {"by": "caller"}, "by"),
        ("stats", {"by": "model,model"}, "by"),
        ("stats", {"bucket": "minute"}, "bucket"),
        ("stats", {"format": "xml"}, "format"),
        ("stats", {"since": "yesterday"}, "since"),
        ("stats", {"until": "0001-01-01T00:00:00Z"}, "until"),
        ("stats", {"since": "2026-01-01T00:00:00Z", "until": "2025-01-01T00:00:00Z"}, "since"),
        ("stats", {"since": "2020-01-01T00:00:00Z"}, "since"),
        (
            "stats",
            {"bucket": "hour", "since": "2026-01-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"},
            "bucket",
        ),
        ("usage", {"since": "2026-W01"}, "since"),
        ("usage", {"until": "9999-12-31"}, "until"),
        ("usage", {"since": "2026-01-02", "until": "2026-01-01"}, "since"),
        ("usage", {"since": "2020-01-01"}, "since"),
        ("usage", {"format": "xml"}, "format"),
    ],
)
def test_what_cannot_be_asked(client: httpx.Client, path: str, query: dict[str, str], field: str) -> None:
    answer = client.get(f"/v1/{path}", params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_usage_of_a_day_with_what_is_deleted(client: httpx.Client, book: Book) -> None:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    gone, kept = book.job("error", "ok"), book.job("ok")
    book.call(gone, "0.25")
    book.call(kept, "0.5")
    before = client.get("/v1/usage").json()
    assert (before["until"], len(before["usage"])) == (today, 1)
    (day,) = before["usage"]
    assert {name: day[name] for name in ("caller", "jobs", "runs", "wall_s", "cpu_s", "calls", "cost_usd")} == {
        "caller": "alice",
        "jobs": 2,
        "runs": 3,
        "wall_s": 3,
        "cpu_s": 1.5,
        "calls": 2,
        "cost_usd": "0.75",
    }
    assert (day["input_tokens"], day["output_tokens"]) == (200, 20)
    for job_id in (gone, kept):
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
        assert client.get("/v1/usage").json() == before
    (flat,) = rows(client.get("/v1/usage", params={"format": "csv"}))
    assert (flat["day"], flat["jobs"], flat["cost_usd"]) == (today, "2", "0.75")
    assert client.get("/v1/usage", params={"since": "2026-01-01", "until": "2026-01-02"}).json()["usage"] == []


def test_deleting_gives_no_seconds_back(client: httpx.Client, book: Book, store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("""UPDATE callers SET quotas = '{"execution_s_per_day": 1}'"""))
    client.delete(f"/v1/jobs/{book.job('ok')}")
    refused = client.post("/v1/jobs", json={"code": "1"})
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:retort:problem:quota-exceeded")


def test_whose_usage_may_be_seen(
    client: httpx.Client, server: Server, connect: Connect, book: Book, store: Store
) -> None:
    admin = connect(server.url, store.key("=root()", [Scope.ADMIN, Scope.READ]))
    Book(store, "=root()").job("ok")
    book.job("ok")
    for whose in ("all", str(new_id())):
        assert client.get("/v1/usage", params={"caller_id": whose}).status_code == 403
    assert client.get("/v1/usage", params={"caller_id": str(book.caller)}).status_code == 200
    everybody = admin.get("/v1/usage", params={"caller_id": "all"}).json()["usage"]
    assert {row["caller"] for row in everybody} == {"alice", "=root()"}
    (one,) = admin.get("/v1/usage", params={"caller_id": str(book.caller)}).json()["usage"]
    assert one["caller"] == "alice"
    assert admin.get("/v1/usage", params={"caller_id": "alice"}).status_code == 422
    flat = rows(admin.get("/v1/usage", params={"caller_id": "all", "format": "csv"}))
    assert {row["caller"] for row in flat} == {"alice", "'=root()"}
