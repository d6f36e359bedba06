"""Which job a message leads to, when others wait; and how many a caller may run at a time."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from domain.bell import ALL_QUEUES
from domain.fairness import CLAIM_FAIRLY, CLAIM_FRESH, CLAIM_FRESH_LIMITED, FAR, LOCK, LOCK_CALLER, NEAR
from domain.ids import new_id
from domain.states import State
from domain.tables.caller import callers, idempotency_keys
from tests.harness import Jobs, attempt, eventually
from tests.integration.plans import claim_of, nodes, planned, rows_read
from worker.claimed import ClaimedJob
from worker.store import MOST_COUNTED, Store

THREADS = 4
AFTER_S = dict.fromkeys(ALL_QUEUES, 5)

#: A job that has ended; messages that name it still lead to others.
PAST = UUID(int=7)


@pytest.fixture
def store(jobs_table: Jobs, database_url: str) -> Iterator[Store]:
    """The store of one worker, and a job that has ended."""
    ended: dict[str, Any] = {"id": PAST, "state": "finished", "verdict": "ok", "finished_at": datetime.now(UTC)}
    jobs_table.add(**ended)
    opened = Store(database_url, threads=THREADS)
    yield opened
    opened.close()


def caller(jobs_table: Jobs, name: str, most_running: int | None = None) -> UUID:
    """A caller."""
    made = new_id()
    with jobs_table.engine.connect() as connection:
        connection.execute(insert(callers), {"id": made, "name": name, "most_running": most_running})
    return made


def waiting(jobs_table: Jobs, caller_id: UUID, count: int, *, waited: bool = True) -> list[UUID]:
    """So many jobs of a caller, in order."""
    ids = jobs_table.add_many(jobs_table.row(caller_id=caller_id) for _ in range(count))
    if waited:
        jobs_table.set(None, rung_at=text("now() - interval '1 second'"))
    return ids


def stay_fresh(jobs_table: Jobs, ids: list[UUID]) -> None:
    """Let jobs be fresh however slow we are."""
    for job_id in ids:
        jobs_table.set(job_id, rung_at=text("now() + interval '10 seconds'"))


def take(store: Store, job_id: UUID | None = None) -> ClaimedJob | None:
    """What a message leads to; unless told, one that names a job which was taken long ago."""
    return store.claim_next(job_id or PAST, uuid4(), "w", State.RUNNING)


def finish(store: Store, job: ClaimedJob) -> None:
    """End a job well."""
    assert store.finish(job, verdict="ok", reason=None, attempt=attempt())


def test_a_fresh_job_is_claimed_by_its_own_message(store: Store, jobs_table: Jobs) -> None:
    old = waiting(jobs_table, caller(jobs_table, "a"), 3)
    (fresh,) = waiting(jobs_table, caller(jobs_table, "b"), 1, waited=False)
    jobs_table.set(fresh, rung_at=text("now() + interval '1 hour'"))  # whatever the machine does meanwhile
    job = take(store, fresh)
    assert job is not None
    assert (job.id, job.limited) == (fresh, False)
    assert jobs_table.count("queued") == len(old)


def test_whoever_waits_is_served_before_who_runs(store: Store, jobs_table: Jobs) -> None:
    """A heavy caller's message claims the other's job."""
    heavy = waiting(jobs_table, caller(jobs_table, "heavy"), 1000)
    running = [take(store, job_id) for job_id in heavy[:3]]
    assert [job.id for job in running if job] == heavy[:3]
    (light,) = waiting(jobs_table, caller(jobs_table, "light"), 1)
    job = take(store, heavy[3])
    assert job is not None
    assert job.id == light


def test_with_one_thread_callers_take_turns(store: Store, jobs_table: Jobs) -> None:
    """Nobody runs anything when the next is chosen, so the one served longest ago is."""
    names = {caller(jobs_table, name): name for name in "abc"}
    for caller_id in names:
        waiting(jobs_table, caller_id, 5)
    served = []
    for _ in range(9):
        job = take(store)
        assert job is not None
        served.append(names[job.caller_id])
        finish(store, job)
    assert served == list("abc") * 3


def test_within_a_caller_the_oldest_is_next(store: Store, jobs_table: Jobs) -> None:
    ids = waiting(jobs_table, caller(jobs_table, "a"), 5)
    assert [job.id for job in (take(store, ids[-1]) for _ in range(5)) if job] == ids


def test_a_message_too_many_finds_nothing(store: Store, jobs_table: Jobs) -> None:
    (job_id,) = waiting(jobs_table, caller(jobs_table, "a"), 1)
    assert take(store, job_id) is not None
    assert take(store, job_id) is None
    assert take(store) is None


def test_a_job_whose_worker_was_lost_is_found_by_its_own_message(store: Store, jobs_table: Jobs) -> None:
    (job_id,) = waiting(jobs_table, caller(jobs_table, "a", most_running=1), 1)
    assert take(store, job_id) is not None
    jobs_table.expire(job_id)
    again = take(store, job_id)
    assert again is not None
    assert (again.id, again.claims) == (job_id, 2)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_caller_runs_more_than_it_may(store: Store, jobs_table: Jobs, most: int) -> None:
    """However many threads try at the same time, fresh jobs and others."""
    limited = caller(jobs_table, "limited", most)
    old = waiting(jobs_table, limited, 10)
    fresh = waiting(jobs_table, limited, 20, waited=False)
    stay_fresh(jobs_table, fresh)
    ids = [job_id for pair in zip(fresh, [*old, *old], strict=True) for job_id in pair]
    with ThreadPoolExecutor(THREADS) as pool:
        taken = [job for job in pool.map(lambda job_id: take(store, job_id), ids) if job is not None]
    assert len(taken) == most
    assert all(job.limited for job in taken)
    for job in taken:
        finish(store, job)
        following = take(store)
        assert following is not None
    assert jobs_table.count("running") == most


def test_how_many_others_wait(store: Store, jobs_table: Jobs) -> None:
    limited = caller(jobs_table, "limited", 5)
    waiting(jobs_table, caller(jobs_table, "other"), 1)
    ids = waiting(jobs_table, limited, 4, waited=False)
    stay_fresh(jobs_table, ids)
    job = take(store, ids[0])
    assert job is not None
    assert (job.id, job.limited) == (ids[0], True)
    assert store.waiting(job) == 3
    assert take(store, ids[1]) is not None
    assert store.waiting(job) == 2
    waiting(jobs_table, limited, MOST_COUNTED)
    assert store.waiting(job) == MOST_COUNTED
    for most, found in ((NEAR + 2, MOST_COUNTED), (NEAR + 3, 0)):  # two run
        with jobs_table.engine.connect() as connection:
            connection.execute(update(callers).where(callers.c.id == limited).values(most_running=most))
        assert store.waiting(job) == found


def test_a_message_too_many_is_dropped_where_there_are_enough(store: Store, jobs_table: Jobs) -> None:
    """Else each that follows would find its job taken, and choose anew, for as long as any job waits."""
    ids = waiting(jobs_table, caller(jobs_table, "a"), 3, waited=False)
    waiting(jobs_table, caller(jobs_table, "b"), 1, waited=False)
    stay_fresh(jobs_table, [ids[1]])
    batch = jobs_table.add(caller_id=caller(jobs_table, "c"), priority="batch")

    def message(job_id: UUID, **depths: int) -> UUID | None:
        job = store.claim_next(job_id, uuid4(), "w", State.RUNNING, depths=lambda: depths)
        return None if job is None else job.id

    assert message(PAST, sandbox=3) is None
    assert message(ids[1], sandbox=3) == ids[1]  # its own job waits
    assert message(PAST, sandbox=2) is not None  # one too few
    assert store.claim_next(PAST, uuid4(), "w", State.RUNNING, depths=lambda: None) is not None  # not known
    assert jobs_table.get(batch).state == "queued"
    assert message(batch, sandbox=9) == batch
    assert message(batch, sandbox=9) is None  # nothing waits
    jobs_table.expire(batch)
    assert message(batch, sandbox=9) == batch  # its worker was lost
    waiting(jobs_table, caller(jobs_table, "d"), MOST_COUNTED, waited=False)
    assert message(PAST, sandbox=10_000) is not None  # not counted any further


def test_a_fresh_job_of_a_limited_caller_reads_what_runs_alone(store: Store, jobs_table: Jobs) -> None:
    """However many jobs the caller had: they count for nothing, and are not read."""
    limited = caller(jobs_table, "limited", 2)
    ended: dict[str, Any] = {"state": "finished", "verdict": "ok", "finished_at": datetime.now(UTC)}
    jobs_table.add_many(jobs_table.row(caller_id=limited, **ended) for _ in range(500))
    first, second = waiting(jobs_table, limited, 2, waited=False)
    stay_fresh(jobs_table, [first, second])
    assert take(store, first) is not None
    read = rows_read(jobs_table, CLAIM_FRESH_LIMITED, claim_of(second), after=LOCK_CALLER)
    assert read == 3  # itself, read and written, and the one that runs
    with jobs_table.engine.connect() as connection:
        row = connection.execute(CLAIM_FRESH_LIMITED, {**claim_of(second), "b_lease_s": 30}).one()
    assert (row.id, row.most) == (second, 2)


def test_who_is_far_from_its_limit_is_claimed_for_without_a_lock(store: Store, jobs_table: Jobs) -> None:
    """Until it is not far; then every end of its jobs is one that may have made room."""
    many = caller(jobs_table, "many", FAR + 2)
    ended: dict[str, Any] = {"state": "finished", "verdict": "ok", "finished_at": datetime.now(UTC)}
    jobs_table.add_many(jobs_table.row(caller_id=many, **ended) for _ in range(500))
    ids = waiting(jobs_table, many, 4, waited=False)
    stay_fresh(jobs_table, ids)
    began = time.monotonic()
    far = [take(store, job_id) for job_id in ids[:2]]
    assert [(job.id, job.limited) for job in far if job] == [(ids[0], False), (ids[1], False)]
    assert far[0] is not None
    assert not store.pressed(far[0], began)
    assert rows_read(jobs_table, CLAIM_FRESH, claim_of(ids[2])) == 3  # itself, and those that run
    near = take(store, ids[2])
    assert near is not None
    assert (near.id, near.limited) == (ids[2], True)
    assert store.pressed(far[0], began)
    assert not store.pressed(far[0], time.monotonic() + 1)


def test_who_is_full_delays_nobody(store: Store, jobs_table: Jobs) -> None:
    full = waiting(jobs_table, caller(jobs_table, "full", 1), 10)
    assert take(store) is not None
    (other,) = waiting(jobs_table, caller(jobs_table, "other"), 1)
    job = take(store, full[5])
    assert job is not None
    assert job.id == other


def test_the_sweeper_rings_for_nobody_who_is_full(store: Store, jobs_table: Jobs) -> None:
    limited = caller(jobs_table, "limited", 1)
    ids = waiting(jobs_table, limited, 3)
    jobs_table.set(None, rung_at=text("now() - interval '1 minute'"))
    first = take(store)
    assert first is not None
    assert store.sweep(after_s=AFTER_S, most=10) == ([], [])
    finish(store, first)
    assert {job_id for job_id, _ in store.sweep(after_s=AFTER_S, most=10)[1]} == set(ids[1:])
    jobs_table.set(None, rung_at=text("now() - interval '1 minute'"))
    with jobs_table.engine.connect() as connection:
        connection.execute(update(callers).values(most_running=0))
    assert store.sweep(after_s=AFTER_S, most=10) == ([], [])


@pytest.mark.parametrize("seed", range(3))
def test_random_messages_run_every_job_once(store: Store, jobs_table: Jobs, seed: int) -> None:
    """Many callers, messages in any order, lost and doubled; what is left over the sweeper finds."""
    rng = random.Random(seed)  # noqa: S311 (seeded on purpose)
    people = [caller(jobs_table, f"p{n}", rng.choice([None, None, 1, 2])) for n in range(8)]
    ids = [i for person in people for i in waiting(jobs_table, person, rng.randint(1, 12), waited=False)]
    messages = [job_id for job_id in ids for _ in range(rng.choice([0, 1, 1, 2]))]
    rng.shuffle(messages)
    ran: Counter[UUID] = Counter()

    def serve(job_id: UUID) -> None:
        job = take(store, job_id)
        if job is not None:
            ran[job.id] += 1
            finish(store, job)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(serve, messages))
        eventually(lambda: not any(pool.map(serve, ids)) and jobs_table.unfinished() == 0, "all ran")
    assert ran == Counter(ids)


def test_expired_idempotency_keys_are_forgotten(store: Store, jobs_table: Jobs) -> None:
    rows = [
        {"caller_id": jobs_table.caller(), "key": str(n), "fingerprint": b"", "made": new_id()}
        for n in range(5)
    ]
    with jobs_table.engine.connect() as connection:
        connection.execute(insert(idempotency_keys), rows)
        old = update(idempotency_keys).where(idempotency_keys.c.key < "3")
        connection.execute(old.values(created_at=text("now() - interval '25 hours'")))
    assert [store.forget_keys(hours=24, most=2) for _ in range(3)] == [2, 1, 0]


def test_a_message_leads_to_its_own_queue(store: Store, jobs_table: Jobs) -> None:
    """What can wait does not go before what cannot, nor does a step go to who cannot do it."""
    interactive = caller(jobs_table, "a")
    batch = jobs_table.add(caller_id=caller(jobs_table, "b"), priority="batch")
    (job_id,) = waiting(jobs_table, interactive, 1)
    asking = jobs_table.add(caller_id=caller(jobs_table, "c"), next_state="generating")
    jobs_table.set(None, rung_at=text("now() - interval '1 second'"))
    job = take(store)
    assert job is not None
    assert job.id == job_id
    assert take(store) is None
    assert take(store, asking) is None
    late = take(store, batch)
    assert late is not None
    assert late.id == batch


def test_batch_work_that_waits_is_not_even_read(store: Store, jobs_table: Jobs) -> None:
    """Of a caller with thousands of batch jobs, older than one that cannot wait."""
    heavy = caller(jobs_table, "heavy")
    waiting(jobs_table, heavy, 1)
    with jobs_table.engine.connect() as connection:
        columns = "caller_id, code, language, profile, limits"
        connection.exec_driver_sql(
            f"INSERT INTO jobs (id, priority, {columns}) "  # noqa: S608
            f"SELECT gen_random_uuid(), 'batch', {columns} FROM jobs, generate_series(1, 5000) "
            "WHERE state = 'queued'",
        )
        connection.exec_driver_sql("VACUUM ANALYZE jobs")
    (urgent,) = waiting(jobs_table, heavy, 1)
    read = rows_read(jobs_table, CLAIM_FAIRLY, claim_of(urgent), after=LOCK)
    assert read < 100
    first = take(store, urgent)
    second = take(store, urgent)
    assert {job.id for job in (first, second) if job} >= {urgent}


def test_the_plan_that_is_made_once_reads_waiting_jobs_alone(jobs_table: Jobs) -> None:
    """It knows no parameter, and so not by itself which index has the jobs that wait."""
    numbered: Any = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    statement: Any = CLAIM_FAIRLY
    with jobs_table.engine.execution_options(isolation_level="READ COMMITTED").connect() as connection:
        planned(connection)
        plan = connection.exec_driver_sql(
            f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement.compile(dialect=numbered)}"
        ).scalar_one()
        connection.rollback()
    found = {(node["Alias"], node.get("Index Name")) for node in nodes(plan[0]["Plan"]) if "Alias" in node}
    waiting_jobs = {index for alias, index in found if alias in {"jobs_1", "jobs_2"}}
    assert waiting_jobs == {"ix_jobs_waiting"}, found


def test_the_sweeper_rings_for_each_queue_in_its_own_time(store: Store, jobs_table: Jobs) -> None:
    """What hangs behind a long queue of batch work is no lost message; what is urgent is rung for."""
    batch = jobs_table.add(priority="batch")
    asks = jobs_table.add(priority="batch", next_state="generating")
    urgent = jobs_table.add()
    jobs_table.set(None, rung_at=text("now() - interval '1 minute'"))
    patience = {**AFTER_S, "sandbox.batch": 3600}
    assert set(store.sweep(after_s=patience, most=10)[1]) == {(urgent, "sandbox"), (asks, "model.batch")}
    assert store.sweep(after_s=AFTER_S, most=10)[1] == [(batch, "sandbox.batch")]


def test_a_worker_that_stands_still_with_the_lock_does_not_keep_others_from_it(
    store: Store, jobs_table: Jobs, database_url: str
) -> None:
    """As one that is frozen within a claim would, or whose machine is."""
    frozen = Store(database_url, threads=1)
    (job_id,) = waiting(jobs_table, caller(jobs_table, "a"), 1)
    with frozen.connections.sweeping.connect() as connection:
        connection.execute(LOCK)
        job = take(store)
        assert job is not None
        assert job.id == job_id
        with pytest.raises(DBAPIError) as ended:
            connection.execute(text("SELECT 1"))
    assert ended.value.connection_invalidated
    frozen.close()
