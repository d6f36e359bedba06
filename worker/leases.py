"""The leases this process holds, and the thread that keeps them."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from domain.parting import GIVE_UP
from domain.states import Priority
from worker import meters
from worker.claimed import ClaimedJob
from worker.store import Store

log = logging.getLogger(__name__)

#: Jobs of which we remember that somebody said they were taken from their worker.
_MOST_TOLD = 1000


@dataclass(slots=True)
class Lease:
    """A held lease, and what to do when another worker may have taken the job."""

    job_id: UUID
    token: UUID
    batch: bool = False
    lost: bool = False
    _on_lost: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def guarding(self, on_lost: Callable[[], None]) -> Iterator[None]:
        """While the block runs a loss calls `on_lost`; after it never, not even one that is under way.

        What `on_lost` ends may belong to another job by then.
        """
        with self._lock:
            self._on_lost = on_lost
            if self.lost:
                on_lost()
        try:
            yield
        finally:
            with self._lock:
                self._on_lost = None

    def lose(self) -> None:
        """Take note that the lease was lost."""
        meters.LOST.inc()
        with self._lock:
            self.lost = True
            if self._on_lost is not None:
                log.warning("lease lost while its job ran", extra={"job_id": str(self.job_id)})
                self._on_lost()


class Leases:
    """All leases of the process, extended together three times within their length."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[UUID, Lease] = {}
        self._told: OrderedDict[UUID, None] = OrderedDict()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def open(self) -> None:
        """Begin to extend."""
        self._thread.start()

    def close(self) -> None:
        """Stop extending."""
        self._stop.set()
        self._thread.join(self._store.lease_s)

    def told(self, job_id: UUID) -> None:
        """Somebody says that a job was taken from its worker. Whether it is so, its lease tells."""
        with self._lock:
            self._told[job_id] = None
            while len(self._told) > _MOST_TOLD:
                self._told.popitem(last=False)
            ours = any(lease.job_id == job_id for lease in self._held.values())
        if ours:
            self.extend()

    @contextmanager
    def hold(self, job: ClaimedJob) -> Iterator[Lease]:
        """Keep a job's lease while the block runs."""
        lease = Lease(job.id, job.token, batch=job.priority == Priority.BATCH)
        with self._lock:
            self._held[job.token] = lease
            told = job.id in self._told
        if told:  # between its claim and now
            self.extend()
        try:
            yield lease
        finally:
            with self._lock:
                del self._held[job.token]

    def __len__(self) -> int:
        return len(self._held)

    @property
    def batch(self) -> int:
        """How many of them are of batch work."""
        with self._lock:
            return sum(lease.batch for lease in self._held.values())

    def extend(self) -> None:
        """Extend every lease once, and let go of those that are lost."""
        with self._lock:
            held = dict(self._held)
        if not held or self._stop.is_set():
            return
        try:
            kept = self._store.heartbeat({token: lease.job_id for token, lease in held.items()})
        except SQLAlchemyError as e:
            # Nobody else can claim while the database is away; if somebody did, the token will tell.
            log.warning("leases could not be extended: %s", e)
            return
        for token in held.keys() - kept:
            with self._lock:
                # A job that ended meanwhile has given its lease up itself.
                lease = self._held.get(token)
            if lease is not None and not lease.lost:
                # In a thread of its own: it may wait for the engine, and the other leases must not.
                threading.Thread(target=lease.lose, name="lease-lost", daemon=True).start()

    def give_up(self) -> int:
        """Leave all jobs to others now, and kill what runs of them; how many. Nothing is extended after it."""
        self._stop.set()
        with self._lock:
            held = dict(self._held)
        values = {"tokens": list(held), "ids": [lease.job_id for lease in held.values()]}
        given = self._store.all(GIVE_UP, values)
        for lease in held.values():
            threading.Thread(target=lease.lose, name="lease-lost", daemon=True).start()
        return len(given)

    def _keep(self) -> None:
        while not self._stop.wait(self._store.lease_s / 3):
            self.extend()
