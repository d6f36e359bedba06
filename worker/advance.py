"""One step of a job: claim it, and do the step it waits for."""

import time
from uuid import UUID, uuid4

from domain.bell import queue_of, queues_of
from domain.states import State
from worker import faults, telling
from worker.broker import Bell
from worker.claimed import ClaimedJob
from worker.generating import Generating
from worker.leases import Leases
from worker.pipeline import Pipeline
from worker.store import Store


class Steps:
    """The steps that this worker does: running programs, asking models, or both. Called from many threads."""

    def __init__(
        self,
        *,
        store: Store,
        leases: Leases,
        bell: Bell,
        worker: str,
        running: Pipeline | None = None,
        generating: Generating | None = None,
    ) -> None:
        self._store = store
        self._leases = leases
        self._bell = bell
        self._worker = worker
        self._running = running
        self._generating = generating
        self.draining = False
        self.advanced_at = time.monotonic()
        self._claimed_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since a job was claimed here, or since the start."""
        return time.monotonic() - self._claimed_at

    @property
    def serves(self) -> tuple[State, ...]:
        """The states to which this worker moves jobs."""
        kinds = {State.RUNNING: self._running, State.GENERATING: self._generating}
        return tuple(state for state, step in kinds.items() if step is not None)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it listens to."""
        tiers = () if self._running is None else self._running.tiers
        return tuple(queue for state in self.serves for queue in queues_of(state, tiers))

    def open_queues(self) -> tuple[str, ...]:
        """Those of them whose steps can be done now."""
        if self.draining:
            return ()
        tiers = () if self._running is None else self._running.runtimes
        return tuple(queue for state in self._open() for queue in queues_of(state, tiers))

    def advance(self, job_id: UUID) -> None:
        """Do the next step of a job, or of a fairer one. Without a claim, both are left to the sweeper."""
        self.advanced_at = began = time.monotonic()
        states = self._open()
        if self.draining or not states:
            return
        tiers = () if self._running is None else self._running.runtimes
        job = self._store.claim_next(
            job_id, uuid4(), self._worker, *states, runtimes=tiers, depths=self._depths
        )
        if job is None:
            return
        self._claimed_at = time.monotonic()
        faults.at("claimed", job.id)
        try:
            with telling.step(job, self._claimed_at - began):
                self._step(job)
        finally:
            if self._store.pressed(job, began):
                self._room_for_one(job)

    def _room_for_one(self, job: ClaimedJob) -> None:
        """Ring if the job's caller, who may run one more now, has more jobs that wait than there are messages.

        A message that came while there was no room is gone. The bell says that there is work, not which; rung
        for every end, messages would come to outnumber jobs, and each be a claim.
        """
        queue = queue_of(job.state, job.priority, job.runtime)
        waiting = self._store.waiting(job)
        if waiting and (self._bell.waiting(queue) or 0) < waiting:
            self._bell.ring(job.id, queue)

    def _step(self, job: ClaimedJob) -> None:
        with self._leases.hold(job) as lease:
            if job.state is State.RUNNING and self._running is not None:
                self._running.run(job, lease)
            elif job.task is not None and self._generating is not None:
                self._generating.do(job, job.task)

    def _depths(self) -> dict[str, int] | None:
        """How many messages lie in each queue that is ours."""
        return self._bell.depths(*self.queues)

    def _open(self) -> list[State]:
        """The steps that can be done now."""
        closed = self._running is None or self._running.why_not is not None
        return [state for state in self.serves if state is not State.RUNNING or not closed]
