"""Leases as a worker process keeps them."""

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from domain.states import State
from tests.harness import Jobs, attempt, eventually
from worker.claimed import ClaimedJob
from worker.leases import Leases
from worker.store import Store


@pytest.fixture
def store(clean_tables: None, database_url: str) -> Iterator[Store]:
    """The store of one worker."""
    opened = Store(database_url, threads=2)
    yield opened
    opened.close()


@pytest.fixture
def leases(store: Store) -> Leases:
    """Leases that the test extends, instead of a thread."""
    return Leases(store)


def claimed(store: Store, job_id: UUID) -> ClaimedJob:
    """A claim that must succeed."""
    job = store.claim(job_id, uuid4(), "w", State.RUNNING)
    assert job is not None
    return job


def lapsed(jobs_table: Jobs) -> int:
    """How many leases have run out."""
    with jobs_table.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM jobs WHERE lease_until < now()")).scalar_one())


def test_what_is_held_is_extended_and_what_is_let_go_is_not(
    store: Store, leases: Leases, jobs_table: Jobs
) -> None:
    job, other = (claimed(store, jobs_table.add()) for _ in range(2))
    assert len(leases) == 0
    with leases.hold(job) as lease, leases.hold(other):
        assert len(leases) == 2
        jobs_table.expire()
        leases.extend()
        assert lapsed(jobs_table) == 0
        assert not lease.lost
    assert len(leases) == 0
    jobs_table.expire()
    leases.extend()
    assert lapsed(jobs_table) == 2


def test_a_step_that_fails_lets_go(store: Store, leases: Leases, jobs_table: Jobs) -> None:
    job = claimed(store, jobs_table.add())
    with pytest.raises(RuntimeError), leases.hold(job):
        raise RuntimeError
    assert len(leases) == 0


def test_a_lost_lease_is_told_once(store: Store, leases: Leases, jobs_table: Jobs) -> None:
    lost, kept = claimed(store, jobs_table.add()), claimed(store, jobs_table.add())
    told: list[UUID] = []
    with (
        leases.hold(lost) as losing,
        leases.hold(kept) as keeping,
        losing.guarding(lambda: told.append(lost.id)),
        keeping.guarding(lambda: told.append(kept.id)),
    ):
        leases.extend()
        assert told == []
        jobs_table.expire(lost.id)
        claimed(store, lost.id)  # somebody else
        for _ in range(3):
            leases.extend()
        eventually(lambda: told == [lost.id], "the loss is told")
        assert losing.lost
        assert not keeping.lost


def test_a_loss_before_there_is_anything_to_stop_is_remembered(
    store: Store, leases: Leases, jobs_table: Jobs
) -> None:
    job = claimed(store, jobs_table.add())
    with leases.hold(job) as lease:
        jobs_table.expire()
        claimed(store, job.id)
        leases.extend()
        eventually(lambda: lease.lost, "the loss is noted")
        told: list[UUID] = []
        with lease.guarding(lambda: told.append(job.id)):
            assert told == [job.id]


def test_a_loss_after_the_program_ended_stops_nothing(store: Store, leases: Leases, jobs_table: Jobs) -> None:
    """Its cell may run another job of the same caller by then."""
    job = claimed(store, jobs_table.add())
    told: list[UUID] = []
    with leases.hold(job) as lease:
        with lease.guarding(lambda: told.append(job.id)):
            pass
        assert store.finish(job, verdict="ok", reason=None, attempt=attempt())
        leases.extend()  # sees a lease that does not hold
        eventually(lambda: lease.lost, "the loss is noted")
    assert told == []


def test_a_job_that_ended_has_lost_nothing(store: Store, leases: Leases, jobs_table: Jobs) -> None:
    """The heartbeat may be under way while the job ends."""
    job = claimed(store, jobs_table.add())
    told: list[UUID] = []
    with leases.hold(job) as lease, lease.guarding(lambda: told.append(job.id)):
        pass
    assert store.finish(job, verdict="ok", reason=None, attempt=attempt())
    leases.extend()
    assert not lease.lost
    assert told == []


def test_one_lost_job_that_cannot_be_stopped_costs_the_others_nothing(
    store: Store, leases: Leases, jobs_table: Jobs
) -> None:
    """The engine may hang while a container is to be killed."""
    lost, kept = claimed(store, jobs_table.add()), claimed(store, jobs_table.add())
    hanging, release = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        release.wait(60)

    with leases.hold(lost) as losing, leases.hold(kept), losing.guarding(hang):
        jobs_table.expire(lost.id)
        claimed(store, lost.id)
        leases.extend()
        assert hanging.wait(60)
        jobs_table.expire(kept.id)
        leases.extend()
        assert lapsed(jobs_table) == 0
        release.set()


def test_leases_outlive_an_absence_of_the_database(leases: Leases, store: Store, jobs_table: Jobs) -> None:
    job = claimed(store, jobs_table.add())
    with leases.hold(job) as lease:
        with jobs_table.engine.connect() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"),
            )
        leases.extend()  # fails, and says so in the log
        jobs_table.expire()
        leases.extend()
        assert not lease.lost
        assert lapsed(jobs_table) == 0


def test_the_thread_extends_by_itself(store: Store, jobs_table: Jobs) -> None:
    store.lease_s = 0.3
    leases = Leases(store)
    leases.open()
    with leases.hold(claimed(store, jobs_table.add())):
        jobs_table.expire()
        eventually(lambda: lapsed(jobs_table) == 0, "the lease is extended")
    leases.close()
