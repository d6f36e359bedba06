"""What a worker process does beside its jobs: sweep, report, and notice that it has gone deaf."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from domain.bell import BATCH_SUFFIX
from domain.states import Runtime, State
from storage.store import StorageError
from worker import meters
from worker.advance import Steps
from worker.broker import Bell
from worker.leases import Leases
from worker.sandbox import posture
from worker.sandbox.engine import Engine, EngineError, NoSuchImage
from worker.sandbox.images import BUILD_COMMAND
from worker.sandbox.pool import Pool
from worker.sandbox.spec import LABEL_INSTANCE
from worker.sandbox.stream import CellLost
from worker.store import Store

log = logging.getLogger(__name__)

SWEEP_S = 1.0
REPORT_S = 1.0

#: Seconds between looks for files and artifacts that nobody needs any more.
RETAIN_S = 600.0

#: Seconds between tries to examine the sandboxes, and between examinations.
GUARD_S = 2.0
POSTURE_S = 3600.0

#: Ring again for a job that nobody took for so long: when the queue is short its message must be lost, when
#: it is longer the message is most likely still in it. Where it is long, its messages do for all that wait, as
#: each leads to any of them: else they would come to outnumber the jobs by far while nobody takes them. The
#: sweeper lengthens a queue that has less than `RINGS`; until then it rings for a job only to be safe.
OVERDUE_S = 5
OVERDUE_BUSY_S = 60
OVERDUE_LONG_S = 3600
SHORT_QUEUE = 50

#: Seconds between looks for jobs whose tier nobody offers, and for how long nobody may.
STRANDED_S = 10.0
STRANDED_AFTER_S = 600.0

#: Jobs rung for in one sweep, of each queue.
RINGS = 500

#: Seconds between two looks for Idempotency-Keys that have expired, and how many are forgotten at once.
FORGET_S = 300.0
FORGOTTEN_AT_ONCE = 1000
#: What a worker is called that does these steps.
ROLES = {State.RUNNING: "sandbox", State.GENERATING: "model"}

#: Exit status of a deaf worker; its supervisor starts it again.
DEAF_EXIT = 75


class Every:
    """A daemon thread that calls something every few seconds until stopped."""

    def __init__(self, seconds: float, name: str, step: Callable[[], None]) -> None:
        self._seconds = seconds
        self._step = step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._name = name

    def open(self) -> None:
        """Begin, with a first call at once."""
        self._thread.start()

    def close(self) -> None:
        """End; waits for a call under way."""
        self._stop.set()
        self._thread.join(10)

    def _loop(self) -> None:
        while True:
            try:
                self._step()
            except SQLAlchemyError as e:
                log.warning("%s: the database is away: %s", self._name, str(e).splitlines()[0])
            except StorageError as e:
                log.warning("%s: %s", self._name, e)
            except Exception:  # a worker whose sweeper ended unnoticed would lose jobs
                log.exception("%s failed; it goes on", self._name)
            if self._stop.wait(self._seconds):
                return


def sweep(store: Store, bell: Bell) -> None:
    """Ring again for jobs that nobody took or whose worker was lost."""
    depths = bell.depths()
    if depths is None:
        return  # ringing would not be heard
    patience = {queue: _patience(queue, depth) for queue, depth in depths.items()}
    broken, overdue = store.sweep(after_s=patience, most=RINGS)
    for job_id in broken:
        log.error("job given up: its worker was lost too often", extra={"job_id": str(job_id)})
        meters.GIVEN_UP.inc()
        bell.tell(job_id, State.BROKEN)
    for job_id, queue in overdue:
        if not bell.ring(job_id, queue):
            break  # each further try would take seconds; the rest is due again soon
        meters.RINGS.labels(queue).inc()
    if overdue:
        log.info("rang again for overdue jobs", extra={"count": len(overdue)})


def _patience(queue: str, depth: int) -> int:
    """Seconds until it is rung again for a job of a queue which is so long."""
    if depth >= RINGS:
        return OVERDUE_LONG_S
    return OVERDUE_S if depth < SHORT_QUEUE or queue.endswith(BATCH_SUFFIX) else OVERDUE_BUSY_S


def forget(store: Store, hours: int) -> None:
    """Forget Idempotency-Keys that have expired, a bounded number at a time."""
    while store.forget_keys(hours=hours, most=FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE:
        pass


class Stranded:
    """Ends jobs for a tier that no live worker has offered for a while: no other tier stands in for it."""

    def __init__(self, store: Store, bell: Bell) -> None:
        self._store = store
        self._bell = bell
        # Counted from our own start: who has just come knows nothing of before.
        self._offered_at = dict.fromkeys(Runtime, time.monotonic())

    def step(self) -> None:
        """Look who offers what."""
        now = time.monotonic()
        offered = self._store.offered()
        if not offered:  # nobody runs programs at all: they may be restarting, and jobs wait
            self._offered_at = dict.fromkeys(Runtime, now)
        for name in offered:
            self._offered_at[Runtime(name)] = now
        gone = [each for each, at in self._offered_at.items() if now - at > STRANDED_AFTER_S]
        if not gone:
            return
        for job_id in self._store.break_stranded(gone, after_s=int(STRANDED_AFTER_S)):
            log.error("job given up: no worker offers its runtime", extra={"job_id": str(job_id)})
            self._bell.tell(job_id, State.BROKEN)


class Guard:
    """Lets the pool use each tier while its sandboxes are what they must be, looked at now and every hour."""

    def __init__(self, *, engine: Engine, pool: Pool, image: str) -> None:
        self._engine = engine
        self._pool = pool
        self._image = image
        self._next = dict.fromkeys(pool.settings.runtimes, 0.0)

    def step(self) -> None:
        """Look at the tiers for which it is time."""
        for runtime, due in self._next.items():
            if time.monotonic() >= due:
                self._examine(runtime)

    def _examine(self, runtime: Runtime) -> None:
        """Look at one tier; if the engine is away or lacks it, it is asked again at the next step."""
        instance = f"{self._pool.settings.instance}.posture"
        try:
            for container in self._engine.labelled(LABEL_INSTANCE, instance):
                self._engine.remove(container["Id"])
            checks = posture.examine(self._engine, self._image, runtime, instance, trials=False)
        except (EngineError, CellLost) as e:
            hint = f"; build it with: {BUILD_COMMAND}" if isinstance(e, NoSuchImage) else ""
            self._refuse(runtime, f"sandboxes on {runtime} could not be examined: {e}{hint}")
            return
        self._next[runtime] = time.monotonic() + POSTURE_S
        bad = posture.differences(checks)
        self._refuse(runtime, bad and f"sandboxes on {runtime} are not what they must be: {bad}")

    def _refuse(self, runtime: Runtime, why: str | None) -> None:
        if why is not None and self._pool.refusals.get(runtime) != why:
            log.critical("no work is taken: %s", why)
        self._pool.refuse(runtime, why)


class Reporter:
    """Says how this worker is, and ends it when it has gone deaf."""

    def __init__(
        self,
        *,
        store: Store,
        bell: Bell,
        steps: Steps,
        leases: Leases,
        instance: str,
        jobs: int,
        batch_jobs: int,
        why_not: Callable[[], str | None],
        facts: Callable[[], dict[str, Any]],
        beat: Callable[[], None],
        deaf_s: float,
    ) -> None:
        """`batch_jobs`: how many of the `jobs` may be of batches.

        `deaf_s`: with messages waiting, threads idle and nothing taken, for a worker to count as deaf.
        """
        self._deaf_s = deaf_s
        self._store = store
        self._bell = bell
        self._steps = steps
        self._leases = leases
        self._instance = instance
        self._jobs = jobs
        self._batch_jobs = batch_jobs
        self._why_not = why_not
        self._facts = facts
        self._beat = beat
        self._heard_at = time.monotonic()
        self.why_not: str | None = "it starts"

    def step(self) -> None:
        """Look, report, and give up if deaf."""
        why_not = self.why_not = "it is stopping" if self._steps.draining else self._why_not()
        self._store.report(
            self._instance,
            ready=why_not is None,
            why_not=why_not,
            facts={
                "roles": [ROLES[state] for state in self._steps.serves],
                "jobs": self._jobs,
                "batch_jobs": self._batch_jobs,
                "busy": len(self._leases),
                "idle_s": round(self._steps.idle_s, 1),
                **self._facts(),
            },
        )
        if why_not is None:
            self._beat()
        self._check_hearing(working=why_not is None)

    def _check_hearing(self, *, working: bool) -> None:
        # Redis consumers have been seen to stay connected and hear nothing; only a new process helps.
        now = time.monotonic()
        idle = len(self._leases) < self._jobs
        takes = [
            queue
            for queue in self._steps.open_queues()
            if self._leases.batch < self._batch_jobs or not queue.endswith(BATCH_SUFFIX)
        ]
        if not working or not idle or not takes or not self._bell.waiting(*takes):
            self._heard_at = now
        self._heard_at = max(self._heard_at, self._steps.advanced_at)
        if now - self._heard_at > self._deaf_s:
            log.critical("messages wait and none arrives; ending, to be started anew")
            os._exit(DEAF_EXIT)
