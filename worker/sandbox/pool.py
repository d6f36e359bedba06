"""The pool: cells started ahead, each for one job, or for more jobs of one caller who asked for that.

Theory of operation. Whoever needs a cell takes an idle one or waits; all starting is done by a few starter
threads, all removing by undertakers (crew.py), so a job's path holds neither. Each shelf (image, profile and
tier) keeps a target of idle cells that rises when a job had to wait and sinks while none does (shelf.py). How
many cells there may be is bounded twice: by number, and by the memory that all of them may use together. One
thread, the keeper (keeper.py), looks after what waits.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterable

from domain.limits import Limits, Profile
from domain.states import Runtime
from worker.sandbox.cell import Cell
from worker.sandbox.crew import Crew
from worker.sandbox.engine import Engine, EngineDown, NoSuchImage
from worker.sandbox.keeper import Keeper
from worker.sandbox.lending import Lent, PoolSettings, PoolUnavailable
from worker.sandbox.shelf import Shelf
from worker.sandbox.shelves import Shelves
from worker.sandbox.spec import LABEL_INSTANCE, LABEL_WORKER
from worker.sandbox.statistics import PoolStats

log = logging.getLogger(__name__)

#: Jobs that one cell serves for its caller.
REUSE_JOBS = 10_000

NOT_EXAMINED = "the sandboxes were not examined yet"


class Pool:
    """See the module."""

    def __init__(self, engine: Engine, settings: PoolSettings) -> None:
        self.settings = settings
        self.engine = engine
        self.worker = uuid.uuid4().hex
        self.stats = PoolStats()
        self.failure: str | None = None  # why no cell at all can be started, for a person
        #: Why a tier may not be used. One that is not in here may.
        self.refusals: dict[Runtime, str] = dict.fromkeys(settings.runtimes, NOT_EXAMINED)
        self.shelves = Shelves()
        self.cells: set[Cell] = set()  # every cell that has or may have a container
        self.changed = threading.Condition()
        self.closed = False
        self.taken_at = time.monotonic()
        self.crew = Crew(self)
        self._keeper = Keeper(self)

    # --- life -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Remove what an earlier process of this instance left behind, then begin to keep cells ready."""
        self._keeper.open()

    def shelf(
        self,
        image: str,
        profile: Profile,
        mentions: Iterable[str] = (),
        *,
        runtime: Runtime = Runtime.RUNC,
    ) -> None:
        """Always keep cells of this kind ready.

        `mentions`: words of a program that wants preloading; without them, those that the shelves have for the
        image. Shelves that were not asked for begin empty, with their first job, and end empty when unused.
        """
        with self.changed:
            self.shelves.keep(image, profile, runtime, mentions, self.settings.least)
            self.changed.notify_all()

    def close(self) -> None:
        """Remove every cell. Jobs that still run lose theirs."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self._keeper.close()
        self.crew.close()

    def reap(self) -> int:
        """Remove containers of this instance that no live pool of it knows: what a crash left behind."""
        with self.changed:
            known = {cell.id for cell in self.cells}
            starting = any(shelf.starting for shelf in self.shelves.values())
        count = 0
        for container in self.engine.labelled(LABEL_INSTANCE, self.settings.instance):
            mine = container["Labels"].get(LABEL_WORKER) == self.worker
            if container["Id"] in known or (mine and starting):
                continue
            self.engine.remove(container["Id"])
            count += 1
        if count:
            log.info("removed containers of an earlier process", extra={"count": count})
        return count

    # --- whether it works -------------------------------------------------------------------------

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """The tiers that may be used now."""
        return tuple(each for each in self.settings.runtimes if each not in self.refusals)

    @property
    def refusal(self) -> str | None:
        """Why no tier may be used; None if one may."""
        if self.runtimes:
            return None
        return "; ".join(dict.fromkeys(self.refusals.values())) or "no tier is offered"

    @refusal.setter
    def refusal(self, why: str | None) -> None:
        for runtime in self.settings.runtimes:
            self.refuse(runtime, why)

    def refuse(self, runtime: Runtime, why: str | None) -> None:
        """Lend no cell of a tier from now on, or (None) do."""
        with self.changed:
            if why is None:
                self.refusals.pop(runtime, None)
            else:
                self.refusals[runtime] = why
            self.changed.notify_all()

    @property
    def why_not(self) -> str | None:
        """Why no job can be served now, for a person; None if one can."""
        if self.refusal or self.failure:
            return self.refusal or self.failure
        shelves = tuple(self.shelves.values())  # whoever asks has no lock, and they may become more meanwhile
        kept = [shelf for shelf in shelves if shelf.least and shelf.runtime not in self.refusals]
        if kept and all(shelf.failure for shelf in kept):
            return kept[0].failure
        return None

    # --- lending ----------------------------------------------------------------------------------

    def take(
        self,
        image: str,
        profile: Profile,
        *,
        runtime: Runtime | None = None,
        limits: Limits | None = None,
        code: bytes = b"",
        caller: str | None = None,
        timeout_s: float = 30.0,
    ) -> Lent:
        """An exclusive cell for a job with these limits (not said: the profile's).

        `caller` set: perhaps one in which that caller's jobs ran before.

        Raises:
            PoolUnavailable: none could be had in time.
        """
        began = time.monotonic()
        tier = self.settings.runtimes[0] if runtime is None else runtime
        granted = profile.defaults if limits is None else limits
        while True:
            lent = self._take((image, profile, tier), granted, code, caller, began, timeout_s)
            # Nobody waited for the reset after the last job; by now it is long done.
            left = lent.cell.wait_clean()
            if left is None:
                lent.cell.caller = caller
                return lent
            log.info("a used cell was not clean: %s", left, extra={"container": lent.cell.id})
            self.stats.unclean += 1
            self.give_back(lent, reusable=False)

    def _take(
        self,
        kind: tuple[str, Profile, Runtime],
        limits: Limits,
        code: bytes,
        caller: str | None,
        began: float,
        timeout_s: float,
    ) -> Lent:
        with self.changed:
            shelf = self.shelves.of(*kind, limits)
            memory_mb = limits.memory_mb
            wants = any(word in code for word in shelf.mentions)
            self.taken_at = shelf.taken_at = began
            lent = None
            if kind[2] not in self.refusals and kind[2] in self.settings.runtimes:
                lent = self._pick(shelf, wants, memory_mb, caller)
            if lent is None:
                lent = self._wait(shelf, wants, memory_mb, caller, began, timeout_s)
            self.taken_at = shelf.taken_at = time.monotonic()
            lent.cell.granted_mb = memory_mb
            shelf.busy += 1
            stats = self.stats
            stats.busy += 1
            if lent.reused:
                stats.reused += 1
            elif lent.start == "warm":
                stats.warm += 1
            else:
                stats.cold += 1
            if not lent.reused:
                self.changed.notify_all()
        return lent

    def _wait(
        self,
        shelf: Shelf,
        wants: bool,
        memory_mb: int,
        caller: str | None,
        began: float,
        timeout_s: float,
    ) -> Lent:
        if shelf.runtime not in self.settings.runtimes:
            raise PoolUnavailable(f"this worker does not offer {shelf.runtime}")
        shelf.waiting += 1
        shelf.missed(began, self.settings.most, memory_mb)
        self.changed.notify_all()
        try:
            while True:
                if self.closed:
                    raise PoolUnavailable("the worker is stopping")
                if why := self.refusals.get(shelf.runtime) or self.failure or shelf.failure:
                    raise PoolUnavailable(why)
                left = began + timeout_s - time.monotonic()
                if left <= 0:
                    raise PoolUnavailable(f"no sandbox became free within {timeout_s:g} s")
                self.changed.wait(left)
                lent = self._pick(shelf, wants, memory_mb, caller)
                if lent is not None:
                    lent.start = "cold"
                    lent.waited_s = time.monotonic() - began
                    self.stats.waits.add(lent.waited_s)
                    return lent
        finally:
            shelf.waiting -= 1

    def _pick(self, shelf: Shelf, wants: bool, memory_mb: int, caller: str | None) -> Lent | None:
        if not self.fits(memory_mb):
            return None
        if caller is not None and (cell := shelf.take_used(caller)):
            return Lent(cell, shelf, "warm", 0.0, reused=True)
        # Never one that is importing: its limits are raised for that, and a job would get what they give.
        while ready := [cell for cell in shelf.idle if not cell.preloading]:
            cell = next((c for c in ready if c.preloaded == wants), ready[0])
            shelf.idle.remove(cell)
            if cell.alive():
                return Lent(cell, shelf, "warm", 0.0, reused=False)
            self.stats.lost += 1
            self.crew.drop(cell)
        return None

    def fits(self, memory_mb: int) -> bool:
        """Whether a job may have so much more memory. One alone may always, or it never could."""
        most = self.settings.memory_mb
        if not most or not self.stats.busy:
            return True
        return self.memory_mb() + memory_mb <= most

    def memory_mb(self) -> int:
        """What all cells may use now, at most."""
        return sum(cell.memory_mb for cell in self.cells)

    def give_back(self, lent: Lent, *, reusable: bool) -> None:
        """End of a job. Unless the cell is `reusable` for its caller's next job, it is destroyed.

        Its reset may still be under way.
        """
        cell = lent.cell
        with self.changed:
            self.stats.busy -= 1
            shelf = lent.shelf
            shelf.busy -= 1
            cell.granted_mb = 0
            keep = reusable and cell.caller is not None and cell.jobs < REUSE_JOBS and not self.closed
            if keep and cell.caller is not None:
                shelf.used.setdefault(cell.caller, []).append(cell)
            else:
                self.crew.drop(cell)
            # A cell that is kept for its caller is nobody's news but of those who wait for room or memory.
            if not keep or any(each.waiting for each in self.shelves.values()):
                self.changed.notify_all()

    # --- what goes wrong; under the lock ------------------------------------------------------------

    def failed(self, error: Exception, shelf: Shelf | None = None) -> None:
        """Take note that something with the engine failed, starting a cell for a shelf or else."""
        self.stats.lost += 1
        now = time.monotonic()
        known = self.failure or (shelf.failure if shelf else None)
        if isinstance(error, EngineDown):
            self.failure = str(error)
        if shelf is not None:
            shelf.failed(str(error), now, for_good=isinstance(error, EngineDown | NoSuchImage))
        if known is None and (self.failure or (shelf and shelf.failure)):
            log.error("cannot start sandboxes: %s", error)
        elif known is None:
            log.warning("a sandbox did not start: %s", error)
        self.changed.notify_all()

    def answers(self) -> None:
        """Take note that the engine answers."""
        if self.failure is not None:
            log.warning("the container engine answers again")
        self.failure = None
