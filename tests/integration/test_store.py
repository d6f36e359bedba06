"""The worker's statements on a real database."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Executable, text

from domain import statements
from domain.bell import ALL_QUEUES, LEASE_S, MAX_CLAIMS
from domain.states import Runtime, State
from tests.harness import Jobs, attempt
from worker import housekeeping
from worker.housekeeping import Stranded
from worker.store import ClaimedJob, Store

THREADS = 20
T = TypeVar("T")


@pytest.fixture
def store(clean_tables: None, database_url: str) -> Iterator[Store]:
    """The store of one worker."""
    opened = Store(database_url, threads=THREADS)
    yield opened
    opened.close()


def claim(store: Store, job_id: UUID, worker: str = "w") -> ClaimedJob | None:
    """Claim with a token of its own."""
    return store.claim(job_id, uuid4(), worker, State.RUNNING)


def claimed(store: Store, job_id: UUID, worker: str = "w") -> ClaimedJob:
    """A claim that must succeed."""
    job = claim(store, job_id, worker)
    assert job is not None
    return job


def finish(store: Store, job: ClaimedJob, verdict: str = "ok", **values: Any) -> bool:
    """Finish with an attempt of that verdict."""
    return store.finish(job, verdict=verdict, reason=None, attempt=attempt(verdict=verdict, **values))


def at_once(count: int, step: Callable[[int], T]) -> list[T]:
    """Call from many threads that all begin together."""
    barrier = threading.Barrier(count)

    def one(number: int) -> T:
        barrier.wait(30)
        return step(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def sweep(store: Store, *, after_s: int = 5, most: int = 100) -> tuple[list[UUID], list[UUID]]:
    """One sweep: what was given up, what is to be rung for."""
    broken, overdue = store.sweep(after_s=dict.fromkeys(ALL_QUEUES, after_s), most=most)
    return broken, [job_id for job_id, _queue in overdue]


# --- claiming -----------------------------------------------------------------------------------------


def test_one_of_many_gets_a_job(store: Store, jobs_table: Jobs) -> None:
    for _ in range(5):
        job_id = jobs_table.add()
        got = at_once(THREADS, lambda n, job_id=job_id: claim(store, job_id, f"w{n}"))  # type: ignore[misc]
        winners = [job for job in got if job is not None]
        assert len(winners) == 1
        row = jobs_table.get(job_id)
        assert (row.state, row.claims, row.lease_token) == ("running", 1, winners[0].token)
        assert row.leased_by == f"w{got.index(winners[0])}"


def test_one_of_many_gets_a_lost_job(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    claimed(store, job_id, "dead")
    jobs_table.expire(job_id)
    got = at_once(THREADS, lambda _: claim(store, job_id))
    assert len([job for job in got if job is not None]) == 1
    assert [(a.number, a.failure, a.worker) for a in jobs_table.attempts(job_id)] == [
        (1, "worker_lost", "dead")
    ]


def test_a_claim_brings_what_the_job_asks_for(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add(
        "print('ä')",
        limits={"timeout_s": 7},
        stdin=b"\x00in",
        args=["a", "b c"],
        env={"A": "1"},
        reuse="caller",
    )
    job = claimed(store, job_id)
    assert (job.id, job.caller_id, job.code, job.language) == (
        job_id,
        jobs_table.caller(),
        "print('ä')",
        "python",
    )
    assert (job.profile, job.limits.timeout_s, job.limits.memory_mb) == ("standard", 7, 512)
    assert (job.stdin, job.args, job.env, job.reuse) == (b"\x00in", ("a", "b c"), {"A": "1"}, "caller")
    assert claimed(store, jobs_table.add()).stdin == b""


def test_a_claim_holds_for_the_length_of_a_lease(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    claimed(store, job_id)
    with jobs_table.engine.connect() as connection:
        left = connection.execute(
            text("SELECT extract(epoch FROM lease_until - started_at) FROM jobs WHERE id = :id"),
            {"id": job_id},
        )
        assert left.scalar_one() == LEASE_S


def test_there_is_no_claim_on_what_is_not_to_be_had(store: Store, jobs_table: Jobs) -> None:
    assert claim(store, uuid4()) is None
    running, finished, cancelled = jobs_table.add(), jobs_table.add(), jobs_table.add()
    claimed(store, running)
    assert finish(store, claimed(store, finished))
    jobs_table.set(cancelled, state="cancelled", finished_at=text("now()"))
    before = [jobs_table.get(job_id) for job_id in (running, finished, cancelled)]
    assert [claim(store, job_id) for job_id in (running, finished, cancelled)] == [None, None, None]
    assert [jobs_table.get(job_id) for job_id in (running, finished, cancelled)] == before


# --- ending -------------------------------------------------------------------------------------------


def test_finish_records_the_result_once(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    job = claimed(store, job_id)
    assert finish(store, job, "error", exit_code=3, stdout=b"out", stderr=b"err", wall_s=0.5, cpu_s=0.25)
    assert not finish(store, job, "ok")
    row = jobs_table.get(job_id)
    assert (row.state, row.verdict, row.lease_token, row.leased_by) == ("finished", "error", None, None)
    assert row.created_at <= row.started_at <= row.finished_at
    (recorded,) = jobs_table.attempts(job_id)
    assert (recorded.number, recorded.verdict, recorded.exit_code, recorded.failure) == (1, "error", 3, None)
    assert (recorded.stdout, recorded.stderr, recorded.stdout_bytes) == (b"out", b"err", 3)
    assert (recorded.finished_at - recorded.started_at).total_seconds() == 0.5


def test_a_wrong_token_changes_nothing(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    stranger = ClaimedJob(**{**fields_of(claimed(store, job_id)), "token": uuid4()})
    before = jobs_table.get(job_id)
    assert not finish(store, stranger)
    assert not store.retry(stranger, attempt=attempt(verdict=None, failure="x"))
    assert not store.break_(stranger, reason="x", attempt=attempt(verdict=None, failure="x"))
    assert not store.release(stranger)
    assert store.heartbeat({stranger.token: stranger.id}) == set()
    assert jobs_table.get(job_id) == before
    assert jobs_table.attempts(job_id) == []


def fields_of(job: ClaimedJob) -> dict[str, Any]:
    """The fields of a claimed job."""
    return {name: getattr(job, name) for name in ClaimedJob.__dataclass_fields__}


def test_many_finish_at_once_and_one_does(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    job = claimed(store, job_id)
    done = at_once(THREADS, lambda n: finish(store, job, stdout=str(n).encode()))
    assert done.count(True) == 1
    (recorded,) = jobs_table.attempts(job_id)
    assert recorded.stdout == str(done.index(True)).encode()


def test_the_slow_one_writes_nothing_over_the_one_that_took_over(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    slow = claimed(store, job_id, "slow")
    jobs_table.expire(job_id)
    quick = claimed(store, job_id, "quick")
    assert not finish(store, slow, "error", stdout=b"slow")
    assert jobs_table.get(job_id).state == "running"
    assert finish(store, quick, "ok", stdout=b"quick", worker="quick")
    assert not finish(store, slow, "error", stdout=b"slow")
    assert jobs_table.get(job_id).verdict == "ok"
    recorded = [(a.number, a.failure, a.worker, a.stdout) for a in jobs_table.attempts(job_id)]
    assert recorded == [(1, "worker_lost", "slow", b""), (2, None, "quick", b"quick")]


def test_a_lapsed_lease_that_nobody_took_still_records(store: Store, jobs_table: Jobs) -> None:
    """The result is right, and throwing it away would only run the program again."""
    job_id = jobs_table.add()
    job = claimed(store, job_id)
    jobs_table.expire(job_id)
    assert finish(store, job)
    assert len(jobs_table.attempts(job_id)) == 1


def test_release_gives_the_claim_back_as_if_it_had_never_been(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    job = claimed(store, job_id)
    assert store.release(job)
    assert not store.release(job)
    row = jobs_table.get(job_id)
    assert (row.state, row.claims, row.lease_token, row.lease_until, row.leased_by) == (
        "queued",
        0,
        *[None] * 3,
    )
    assert jobs_table.attempts(job_id) == []
    assert not finish(store, job)
    assert claimed(store, job_id).claims == 1


def test_retry_queues_again_and_keeps_the_failed_attempt(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    job = claimed(store, job_id)
    assert store.retry(job, attempt=attempt(verdict=None, exit_code=None, failure="sandbox_crash: gone"))
    assert jobs_table.get(job_id).state == "queued"
    assert sweep(store) == ([], [])  # its worker rings itself
    again = claimed(store, job_id)
    assert again.claims == 2
    assert finish(store, again)
    recorded = [(a.number, a.verdict, a.failure) for a in jobs_table.attempts(job_id)]
    assert recorded == [(1, None, "sandbox_crash: gone"), (2, "ok", None)]
    assert jobs_table.get(job_id).started_at < jobs_table.get(job_id).finished_at


def test_a_broken_job_says_why(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    job = claimed(store, job_id)
    assert store.break_(job, reason="no image", attempt=attempt(verdict=None, failure="no image"))
    row = jobs_table.get(job_id)
    assert (row.state, row.verdict, row.reason) == ("broken", None, "no image")
    assert claim(store, job_id) is None


def test_any_bytes_survive(store: Store, jobs_table: Jobs) -> None:
    stdout, stderr = os.urandom(1 << 20), b"\x00" * 1000 + b"\xff\xfe"
    job_id = jobs_table.add()
    assert finish(store, claimed(store, job_id), stdout=stdout, stderr=stderr)
    (recorded,) = jobs_table.attempts(job_id)
    assert recorded.stdout == stdout
    assert recorded.stderr == stderr


@pytest.mark.parametrize("said", ["a\x00b", "half a pair: \ud800"])
def test_no_text_keeps_a_failure_from_being_recorded(store: Store, jobs_table: Jobs, said: str) -> None:
    """What a broken sandbox said may hold what the database's text type does not."""
    job_id = jobs_table.add()
    assert store.retry(claimed(store, job_id), attempt=attempt(verdict=None, failure=said))
    job = claimed(store, job_id)
    assert store.finish(job, verdict="sandbox_crash", reason=said, attempt=attempt(verdict="sandbox_crash"))
    row = jobs_table.get(job_id)
    assert (row.state, row.reason[:1]) == ("finished", said[0])
    assert jobs_table.attempts(job_id)[0].failure[:1] == said[0]


# --- leases -------------------------------------------------------------------------------------------


def test_a_heartbeat_extends_what_is_held_and_tells_what_is_not(store: Store, jobs_table: Jobs) -> None:
    ids = [jobs_table.add() for _ in range(4)]
    held, taken, ended, lapsed = (claimed(store, job_id) for job_id in ids)
    jobs_table.expire()
    claimed(store, taken.id)
    assert finish(store, ended)
    mine = {each.token: each.id for each in (held, taken, ended, lapsed)}
    kept = store.heartbeat({**mine, uuid4(): uuid4()})
    assert kept == {held.token, lapsed.token}
    with jobs_table.engine.connect() as connection:
        live = connection.execute(text("SELECT id FROM jobs WHERE lease_until > now() + interval '20 seconds'"))
        assert {row.id for row in live} == {held.id, taken.id, lapsed.id}
    assert claim(store, held.id) is None
    assert store.heartbeat({}) == set()


def test_a_claim_that_nobody_knows_of_ends(store: Store, jobs_table: Jobs) -> None:
    """Its answer was lost, and the claim that was made in its place has the same token."""
    unknown, known = (claimed(store, jobs_table.add()) for _ in range(2))
    jobs_table.set(unknown.id, lease_token=known.token)
    jobs_table.expire()
    assert store.heartbeat({known.token: known.id}) == {known.token}
    assert claim(store, known.id) is None
    assert claim(store, unknown.id) is not None


def test_a_job_is_claimed_no_more_often_than_it_may(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    for number in range(1, MAX_CLAIMS + 1):
        assert claimed(store, job_id, f"w{number}").claims == number
        jobs_table.expire(job_id)
    assert claim(store, job_id) is None
    assert jobs_table.get(job_id).state == "running"
    broken, overdue = sweep(store)
    assert broken == [job_id]
    assert job_id not in overdue
    row = jobs_table.get(job_id)
    assert (row.state, row.verdict, row.lease_token) == ("broken", None, None)
    assert str(MAX_CLAIMS) in row.reason
    # Every run that was lost is there, the last one too.
    recorded = [(a.number, a.failure, a.worker) for a in jobs_table.attempts(job_id)]
    assert recorded == [(n, "worker_lost", f"w{n}") for n in range(1, MAX_CLAIMS + 1)]
    assert sweep(store) == ([], [])
    assert claim(store, job_id) is None


def test_the_last_claim_may_still_finish(store: Store, jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    jobs_table.set(job_id, claims=MAX_CLAIMS - 1)
    job = claimed(store, job_id)
    assert sweep(store) == ([], [])  # its lease is alive
    assert finish(store, job)


# --- sweeping -----------------------------------------------------------------------------------------


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
        breaking = explain(connection, statements.BREAK_LOST, {})
        ringing = explain(
            connection,
            statements.OVERDUE,
            {"most": 500, **{statements.patience_of(queue): 5 for queue in ALL_QUEUES}},
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
