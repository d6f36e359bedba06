"""Races of workers and sweepers, on the database alone."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from domain.bell import ALL_QUEUES
from domain.states import State
from tests.faults.entries import Trial, fault
from tests.harness import Jobs, attempt
from worker.claimed import ClaimedJob
from worker.store import Store


@fault(
    "F12",
    "sweepers and workers act on what they saw a moment ago, 40 races",
    "nothing that ended or was taken again is overwritten",
    within_s=60,
)
def stale_snapshots(trial: Trial) -> float:
    """Jobs whose lease ran out: their worker writes its result, another claims them, sweepers give them up."""
    table = trial.stack.apart
    began = time.monotonic()
    store = Store(trial.stack.apart_url, threads=6)
    try:
        with ThreadPoolExecutor(6) as pool:
            for _ in range(40):
                _race(trial, table, store, pool)
    finally:
        store.close()
    return time.monotonic() - began


def _race(trial: Trial, table: Jobs, store: Store, pool: ThreadPoolExecutor) -> None:
    waits = [trial.moment(0.004) for _ in range(4)]
    claims = trial.chance.randint(1, 3)
    job_id = table.add("print(1)")
    first = store.claim(job_id, uuid4(), "first", State.RUNNING)
    assert first is not None
    table.set(job_id, claims=claims)
    table.expire(job_id)

    def finish() -> bool:
        time.sleep(waits[0])
        assert first is not None
        return store.finish(first, verdict="ok", reason=None, attempt=attempt(stdout=b"first"))

    def claim() -> ClaimedJob | None:
        time.sleep(waits[1])
        return store.claim(job_id, uuid4(), "second", State.RUNNING)

    def sweep(wait_s: float) -> bool:
        time.sleep(wait_s)
        broken, _ = store.sweep(after_s=dict.fromkeys(ALL_QUEUES, 5), most=500)
        return job_id in broken

    done = pool.submit(finish)
    second = pool.submit(claim)
    swept = [pool.submit(sweep, each) for each in waits[2:]]
    won = [done.result(30), second.result(30) is not None, *(each.result(30) for each in swept)]
    taken = second.result()
    row, attempts = table.get(job_id), table.attempts(job_id)
    said = f"{won} with {claims} claims: {row.state}, {[(a.verdict, a.failure) for a in attempts]}"
    assert sum(won) <= 1, said
    if taken is not None:
        assert (row.state, row.lease_token) == ("running", taken.token), said
        assert store.finish(taken, verdict="ok", reason=None, attempt=attempt(stdout=b"second")), said
        attempts = table.attempts(job_id)
        assert [each.verdict for each in attempts] == [None, "ok"], said
    else:
        assert row.state == ("finished" if won[0] else "broken" if sum(won) else "queued"), said
        assert len(attempts) == 1, said
    assert not store.finish(first, verdict="error", reason=None, attempt=attempt()), said


@fault(
    "F38",
    "four sweepers at once, over jobs that wait, are lost or were lost too often",
    "each job is rung for once, given up once",
    within_s=60,
)
def many_sweepers(trial: Trial) -> float:
    table = trial.stack.apart
    began = time.monotonic()
    stores = [Store(trial.stack.apart_url, threads=2) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            ago = datetime.now(UTC) - timedelta(minutes=1)
            waiting = table.add_many(table.row(rung_at=ago) for _ in range(30))
            lost = table.add_many(table.row() for _ in range(20))
            for job_id in lost:
                assert stores[0].claim(job_id, uuid4(), "gone", State.RUNNING) is not None
                table.set(job_id, claims=trial.chance.choice([1, 3]))
                table.expire(job_id)
            patience = dict.fromkeys(ALL_QUEUES, 5)
            found = list(pool.map(lambda store: store.sweep(after_s=patience, most=500), stores * 3))
        broken = Counter(each for given_up, _ in found for each in given_up)
        rung = Counter(each for _, due in found for each, _ in due)
        mine = {*waiting, *lost}
        dead = {each for each in lost if table.get(each).state == "broken"}
        assert set(broken) & mine == dead
        assert {each for each in rung if each in mine} == mine - dead
        assert set(broken.values()) | {rung[each] for each in mine - dead} <= {1}
        assert all(len(table.attempts(each)) == 1 for each in dead)
    finally:
        for store in stores:
            store.close()
    return time.monotonic() - began
