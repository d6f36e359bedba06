"""What a worker does beside its jobs."""

from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from domain.bell import BATCH_SUFFIX, SANDBOX_QUEUE
from domain.ids import new_id
from domain.states import State
from tests.harness import eventually
from worker import housekeeping
from worker.housekeeping import Every, sweep

BATCH = SANDBOX_QUEUE + BATCH_SUFFIX


class Failing:
    """A step that fails in a new way each time, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.done = 0

    def __call__(self) -> None:
        """One step."""
        if self.errors:
            raise self.errors.pop(0)
        self.done += 1


def test_no_failure_ends_a_housekeeper() -> None:
    step = Failing(OperationalError("SELECT", {}, Exception("away")), RuntimeError("a slip"), OSError("gone"))
    every = Every(0.001, "tester", step)
    every.open()
    eventually(lambda: step.done > 1, "it goes on")
    every.close()


class Bench:
    """A store and a bell that are only looked at."""

    def __init__(
        self, depth: int | None, broken: list[UUID], overdue: list[UUID], deaf_after: int = 99
    ) -> None:
        self.depth, self.broken, self.overdue, self.deaf_after = depth, broken, overdue, deaf_after
        self.swept: list[dict[str, int]] = []
        self.rung: list[UUID] = []
        self.told: list[tuple[UUID, State]] = []

    def depths(self) -> dict[str, int] | None:
        """Lengths of the queues."""
        return None if self.depth is None else {SANDBOX_QUEUE: self.depth, BATCH: self.depth}

    def sweep(self, *, after_s: dict[str, int], most: int) -> tuple[list[UUID], list[tuple[UUID, str]]]:
        """What is due."""
        assert most == housekeeping.RINGS
        self.swept.append(after_s)
        return self.broken, [(job_id, SANDBOX_QUEUE) for job_id in self.overdue]

    def ring(self, job_id: UUID, queue: str) -> bool:
        """Whether it was heard."""
        assert queue == SANDBOX_QUEUE
        self.rung.append(job_id)
        return len(self.rung) < self.deaf_after

    def tell(self, job_id: UUID, state: State) -> None:
        """Remember what is told."""
        self.told.append((job_id, state))


def swept(bench: Bench) -> Bench:
    """After one sweep."""
    sweep(bench, bench)  # type: ignore[arg-type]
    return bench


def test_a_sweep_rings_for_what_is_overdue_and_tells_what_is_broken() -> None:
    broken, overdue = [new_id()], [new_id(), new_id()]
    bench = swept(Bench(0, broken, overdue))
    assert bench.rung == overdue
    assert bench.told == [(broken[0], State.BROKEN)]


@pytest.mark.parametrize(
    ("depth", "patience", "of_batch"),
    [
        (0, housekeeping.OVERDUE_S, housekeeping.OVERDUE_S),
        (housekeeping.SHORT_QUEUE - 1, housekeeping.OVERDUE_S, housekeeping.OVERDUE_S),
        (housekeeping.SHORT_QUEUE, housekeeping.OVERDUE_BUSY_S, housekeeping.OVERDUE_S),
        (housekeeping.RINGS - 1, housekeeping.OVERDUE_BUSY_S, housekeeping.OVERDUE_S),
        (housekeeping.RINGS, housekeeping.OVERDUE_LONG_S, housekeeping.OVERDUE_LONG_S),
        (100_000, housekeeping.OVERDUE_LONG_S, housekeeping.OVERDUE_LONG_S),
    ],
)
def test_a_long_queue_calls_for_patience(depth: int, patience: int, of_batch: int) -> None:
    assert swept(Bench(depth, [], [])).swept == [{SANDBOX_QUEUE: patience, BATCH: of_batch}]


def test_nobody_rings_a_broker_that_is_away() -> None:
    bench = swept(Bench(None, [new_id()], [new_id()]))
    assert bench.swept == []
    assert bench.rung == []


def test_a_broker_that_goes_away_meanwhile_is_not_tried_for_each_job() -> None:
    assert len(swept(Bench(0, [], [new_id() for _ in range(500)], deaf_after=2)).rung) == 2
