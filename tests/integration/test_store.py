"""The worker's statements on a real database: claims, ends and heartbeats of one job."""

import os
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from domain.bell import LEASE_S, MAX_CLAIMS
from tests.harness import Jobs, attempt
from tests.integration.stores import THREADS, at_once, claim, claimed, finish, sweep
from worker.claimed import ClaimedJob
from worker.store import Store

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


def test_connections_that_were_all_lost_at_once_cost_no_claim(jobs_table: Jobs, database_url: str) -> None:
    """As when the database was restarted; not even where more are dead than a statement has tries."""
    job_id = jobs_table.add()
    store = Store(database_url, threads=4)
    store.connections.warm_up()
    with jobs_table.engine.connect() as connection:
        ended = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert len(connection.execute(ended).all()) >= 8
    assert claim(store, job_id) is not None
    store.close()
