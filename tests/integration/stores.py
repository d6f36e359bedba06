"""What tests do with a worker's store, one or many at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID, uuid4

from domain.bell import ALL_QUEUES
from domain.states import State
from tests.harness import attempt
from worker.claimed import ClaimedJob
from worker.store import Store

THREADS = 20
T = TypeVar("T")


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
