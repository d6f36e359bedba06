"""The worker's sweeps on a real database: what is rung for again, and what is given up."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Executable, text

from domain import losing, sweeping
from domain.bell import ALL_QUEUES
from domain.states import Runtime, State
from tests.harness import Jobs
from tests.integration.stores import at_once, claimed, finish, sweep
from worker import housekeeping
from worker.housekeeping import Stranded
from worker.store import Store


def test_a_sweep_rings_only_for_what_is_overdue(store: Store, jobs_table: Jobs) -> None:
    waiting, lost, running, finished = (jobs_table.add() for _ in range(4))
    jobs_table.set(None, rung_at=text("now() - interval '6 seconds'"))
    fresh = jobs_table.add()
    for job_id in (lost, running):
        claimed(store, job_id)
    assert finish(store, claimed(store, finished))
    jobs_table.expire(lost)
    assert sweep(store, after_s=60) == ([], [lost])
    assert sweep(store, after_s=5) == ([], [waiting])
    assert sweep(store) == ([], [])  # rung for just now
    assert [jobs_table.get(job_id).state for job_id in (waiting, lost, running, fresh)] == [
        "queued",
        "queued",
        "running",
        "queued",
    ]
    # What was lost waits as any other job, so that whatever message comes may lead to it.
    assert [each.failure for each in jobs_table.attempts(lost)] == ["worker_lost"]
    assert jobs_table.get(lost).lease_token is None


def test_a_sweep_rings_for_the_oldest_first_and_not_for_all_at_once(store: Store, jobs_table: Jobs) -> None:
    ids = [jobs_table.add() for _ in range(6)]
    for age, job_id in enumerate(reversed(ids), start=10):
        jobs_table.set(job_id, rung_at=text(f"now() - interval '{age} seconds'"))
    assert set(sweep(store, most=4)[1]) == set(ids[:4])
    assert set(sweep(store, most=4)[1]) == set(ids[4:])


def test_only_one_sweeps_at_a_time(store: Store, jobs_table: Jobs) -> None:
    ids = {jobs_table.add() for _ in range(50)}
    jobs_table.set(None, rung_at=text("now() - interval '1 minute'"))
    swept = [job_id for _, overdue in at_once(10, lambda _: sweep(store)) for job_id in overdue]
    assert sorted(swept) == sorted(ids)  # none twice

    jobs_table.set(None, rung_at=text("now() - interval '1 minute'"))
    with jobs_table.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:k)"), {"k": 0x7265746F})
        assert sweep(store) == ([], [])
        other.execute(text("SELECT pg_advisory_unlock(:k)"), {"k": 0x7265746F})
    assert len(sweep(store)[1]) == len(ids)


def test_a_sweep_does_not_wait_for_a_job_in_somebodys_hands(store: Store, jobs_table: Jobs) -> None:
    held, free = jobs_table.add(), jobs_table.add()
    jobs_table.set(None, rung_at=text("now() - interval '1 minute'"))
    with jobs_table.engine.execution_options(isolation_level="READ COMMITTED").begin() as other:
        other.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": held})
        assert sweep(store) == ([], [free])


@pytest.mark.parametrize("overdue", [3, 10_000])
def test_a_sweep_reads_indexes_however_many_jobs_there_are(
    store: Store,
    jobs_table: Jobs,
    overdue: int,
) -> None:
    """10,000 queued jobs and as many finished ones."""
    jobs_table.add()
    columns = "caller_id, code, language, profile, limits"
    with jobs_table.engine.connect() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO jobs (id, state, verdict, finished_at, {columns}) "  # noqa: S608
            f"SELECT gen_random_uuid(), 'finished', 'ok', now(), {columns} "
            "FROM jobs, generate_series(1, 10000)",
        )
        connection.exec_driver_sql(
            f"INSERT INTO jobs (id, rung_at, {columns}) "  # noqa: S608
            f"SELECT gen_random_uuid(), now() + sign(n - {overdue} - 0.5) * interval '1 hour', {columns} "
            "FROM jobs, generate_series(1, 10000) AS n WHERE state = 'queued'",
        )
        connection.exec_driver_sql("VACUUM ANALYZE jobs")
        breaking = explain(connection, losing.BREAK_LOST, {})
        ringing = explain(
            connection,
            sweeping.OVERDUE,
            {"most": 500, **{sweeping.patience_of(queue): 5 for queue in ALL_QUEUES}},
        )
    assert "ix_jobs_leased" in breaking
    assert "ix_jobs_leased" in ringing
    assert "ix_jobs_queued" in ringing
    assert "Seq Scan on jobs" not in breaking + ringing
    assert len(sweep(store, after_s=600, most=500)[1]) == min(overdue, 500)


def explain(connection: Connection, statement: Executable, parameters: dict[str, Any]) -> str:
    """How the database would go about a statement."""
    compiled = statement.compile(  # type: ignore[attr-defined]
        dialect=connection.dialect,
        compile_kwargs={"render_postcompile": True},
    )
    plan = connection.exec_driver_sql(f"EXPLAIN {compiled}", compiled.construct_params(parameters))
    return "\n".join(row[0] for row in plan)


# --- tiers --------------------------------------------------------------------------------------------


def test_a_job_is_claimed_for_its_tier_alone(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add(runtime="runsc")
    assert store.claim(job_id, uuid4(), "w", State.RUNNING, runtimes=(Runtime.RUNC,)) is None
    job = store.claim(job_id, uuid4(), "w", State.RUNNING, runtimes=tuple(Runtime))
    assert job is not None
    assert (job.runtime, job.bound_to) == (Runtime.RUNSC, None)
    jobs_table.expire(job_id)  # nor is it taken over by another tier
    assert store.claim(job_id, uuid4(), "w", State.RUNNING, runtimes=(Runtime.RUNC,)) is None


def test_overdue_jobs_tell_their_tier(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add(runtime="runsc", rung_at=text("now() - interval '1 minute'"))
    assert store.sweep(after_s=dict.fromkeys(ALL_QUEUES, 5), most=10) == ([], [(job_id, "sandbox.runsc")])


def test_jobs_of_a_tier_that_is_gone_end_with_the_reason(
    store: Store, jobs_table: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[UUID] = []
    hour = text("now() - interval '1 hour'")
    old = jobs_table.add(runtime="runsc", created_at=hour)
    jobs_table.add(runtime="runsc")  # has not waited long
    jobs_table.add(created_at=hour)  # of a tier that is there
    store.report("w", ready=True, why_not=None, facts={"runtimes": ["runc"]})
    bell = SimpleNamespace(tell=lambda job_id, state: told.append(job_id))
    stranded = Stranded(store, bell)  # type: ignore[arg-type]
    stranded.step()
    assert told == []  # it has only just come itself, and does not know for how long that is so
    monkeypatch.setattr(housekeeping, "STRANDED_AFTER_S", -1.0)
    monkeypatch.setattr(stranded, "_store", Patient(store))
    stranded.step()
    row = jobs_table.get(old)
    assert (told, row.state, row.reason) == ([old], "broken", "no worker offers the runtime runsc")
    assert jobs_table.count("queued") == 2


class Patient:
    """The store, for which runc was offered a moment ago and jobs may wait for ten minutes."""

    def __init__(self, store: Store) -> None:
        self.offered = store.offered
        self._store = store

    def break_stranded(self, runtimes: list[Runtime], *, after_s: int) -> list[UUID]:
        """As the store does."""
        assert Runtime.RUNSC in runtimes
        return self._store.break_stranded([Runtime.RUNSC], after_s=600)
