"""The pool: cells started ahead, each for one job, or for more jobs of one caller who asked for that.

Theory of operation. Whoever needs a cell takes an idle one or waits; all starting is done by a few starter
threads, all removing by undertakers, so a job's path holds neither. Each shelf (image and profile) keeps a
target of idle cells that rises when a job had to wait and sinks while none does. Heavy packages are imported
in idle cells only while nothing else wants the processor, one cell at a time.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from domain.limits import Profile
from worker.sandbox.cell import Cell
from worker.sandbox.engine import Engine, EngineDown, EngineError, NoSuchImage
from worker.sandbox.spec import LABEL_INSTANCE, LABEL_WORKER, CellSpec, new_uid
from worker.sandbox.stream import CellLost

log = logging.getLogger(__name__)

#: Cells started and removed at the same time. More does not help: the engine's work is all CPU.
STARTERS = 4
UNDERTAKERS = 2

#: Seconds between looks at the shelves when nothing happens.
TICK_S = 0.25

#: Seconds without a job before a cell may import the heavy packages.
QUIET_S = 0.3

#: Seconds without a job that had to wait, after which the target of a shelf sinks by one.
SINK_S = 10.0

#: Seconds after which an idle cell is replaced, and a used one of a caller is given up.
IDLE_S = 3600.0
REUSE_IDLE_S = 60.0

#: Jobs that one cell serves for its caller.
REUSE_JOBS = 10_000

#: Seconds before the engine is tried again after it failed, and failures in a row that count as a state.
RETRY_S = 2.0
FAILURES = 3

#: Seconds between looks for containers that nobody knows.
REAP_S = 30.0


class PoolUnavailable(Exception):
    """No cell can be had now; nothing ran."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Sizes, in cells. `least` and `most` bound the idle cells of a shelf; `cells` bounds all of them."""

    instance: str
    runtime: str = "runc"
    least: int = 2
    most: int = 8
    cells: int = 24


@dataclass(slots=True)
class PoolStats:
    """Counts since the start, and cells now."""

    warm: int = 0
    cold: int = 0
    reused: int = 0
    lost: int = 0
    started: int = 0
    idle: int = 0
    preloaded: int = 0
    busy: int = 0
    starting: int = 0


@dataclass(slots=True)
class Lent:
    """A cell and how it was come by."""

    cell: Cell
    start: str  # 'warm' or 'cold'
    waited_s: float
    reused: bool


@dataclass(slots=True)
class _Shelf:
    image: str
    profile: Profile
    target: float
    idle: deque[Cell] = field(default_factory=deque)
    used: dict[str, list[Cell]] = field(default_factory=dict)
    starting: int = 0
    waiting: int = 0
    missed_at: float = 0.0
    mentions: tuple[bytes, ...] = ()


class Pool:
    """See the module."""

    def __init__(self, engine: Engine, settings: PoolSettings) -> None:
        self.settings = settings
        self.worker = uuid.uuid4().hex
        self.stats = PoolStats()
        self.mentions: dict[str, tuple[str, ...]] = {}  # by image: words of programs that want preloading
        self.failure: str | None = None  # why cells cannot be started, for a person
        self.refusal: str | None = "the sandboxes were not examined yet"  # why none may be used
        self._engine = engine
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._retry_at = 0.0
        self._reap_at = 0.0
        self._failures = 0
        self._taken_at = time.monotonic()
        self._preloading: Cell | None = None
        self._cells: set[Cell] = set()  # every cell that has or may have a container
        self._starters = ThreadPoolExecutor(STARTERS, "cell-starter")
        self._undertakers = ThreadPoolExecutor(UNDERTAKERS, "cell-undertaker")
        self._keeper = threading.Thread(target=self._keep, name="pool-keeper", daemon=True)

    # --- life -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Remove what an earlier process of this instance left behind, then begin to keep cells ready."""
        self._reap()
        self._keeper.start()

    def shelf(self, image: str, profile: Profile, mentions: tuple[str, ...] = ()) -> None:
        """Keep cells of this image and profile ready. `mentions`: words of a program that wants preloading.

        Without them, those that `mentions` has for the image.
        """
        with self._changed:
            key = (image, profile.name)
            if key not in self._shelves:
                self._shelves[key] = _Shelf(image, profile, self.settings.least)
                words = mentions or self.mentions.get(image, ())
                self._shelves[key].mentions = tuple(word.encode() for word in words)
                self._changed.notify_all()

    def close(self) -> None:
        """Remove every cell. Jobs that still run lose theirs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._keeper.is_alive():
            self._keeper.join(5)
        self._starters.shutdown(wait=True, cancel_futures=True)
        for cell in list(self._cells):
            self._bury(cell)
        self._undertakers.shutdown(wait=True)

    def reap(self) -> int:
        """Remove containers of this instance that no live pool of it knows: what a crash left behind."""
        with self._changed:
            known = {cell.id for cell in self._cells}
            starting = any(shelf.starting for shelf in self._shelves.values())
        count = 0
        for container in self._engine.labelled(LABEL_INSTANCE, self.settings.instance):
            mine = container["Labels"].get(LABEL_WORKER) == self.worker
            if container["Id"] in known or (mine and starting):
                continue
            self._engine.remove(container["Id"])
            count += 1
        if count:
            log.info("removed containers of an earlier process", extra={"count": count})
        return count

    @property
    def why_not(self) -> str | None:
        """Why no job can be served now, for a person; None if one can."""
        return self.refusal or self.failure

    # --- lending ----------------------------------------------------------------------------------

    def take(
        self,
        image: str,
        profile: Profile,
        *,
        code: bytes = b"",
        caller: str | None = None,
        timeout_s: float = 30.0,
    ) -> Lent:
        """An exclusive cell; `caller` set: perhaps one in which that caller's jobs ran before.

        Raises:
            PoolUnavailable: none could be had in time.
        """
        began = time.monotonic()
        self.shelf(image, profile)
        while True:
            lent = self._take(self._shelves[image, profile.name], code, caller, began, timeout_s)
            # Nobody waited for the reset after the last job; by now it is long done.
            left = lent.cell.wait_clean()
            if left is None:
                lent.cell.caller = caller
                return lent
            log.info("a used cell was not clean: %s", left, extra={"container": lent.cell.id})
            self.give_back(lent, reusable=False)

    def _take(self, shelf: _Shelf, code: bytes, caller: str | None, began: float, timeout_s: float) -> Lent:
        wants = any(word in code for word in shelf.mentions)
        with self._changed:
            self._taken_at = began
            lent = self._pick(shelf, wants, caller) if self.refusal is None else None
            if lent is None:
                lent = self._wait(shelf, wants, caller, began, timeout_s)
            self._taken_at = time.monotonic()
            self.stats.busy += 1
            if lent.reused:
                self.stats.reused += 1
            elif lent.start == "warm":
                self.stats.warm += 1
            else:
                self.stats.cold += 1
            if not lent.reused:
                self._changed.notify_all()
        return lent

    def _wait(self, shelf: _Shelf, wants: bool, caller: str | None, began: float, timeout_s: float) -> Lent:
        shelf.waiting += 1
        shelf.missed_at = began
        shelf.target = min(shelf.target + 1, self.settings.most)
        self._changed.notify_all()
        try:
            while True:
                if self._closed:
                    raise PoolUnavailable("the worker is stopping")
                if self.why_not is not None:
                    raise PoolUnavailable(self.why_not)
                left = began + timeout_s - time.monotonic()
                if left <= 0:
                    raise PoolUnavailable(f"no sandbox became free within {timeout_s:g} s")
                self._changed.wait(left)
                lent = self._pick(shelf, wants, caller)
                if lent is not None:
                    lent.start = "cold"
                    lent.waited_s = time.monotonic() - began
                    return lent
        finally:
            shelf.waiting -= 1

    def _pick(self, shelf: _Shelf, wants: bool, caller: str | None) -> Lent | None:
        if caller is not None and (used := shelf.used.get(caller)):
            return Lent(used.pop(), "warm", 0.0, reused=True)
        # Never one that is importing: its limits are raised for that, and a job would get what they give.
        while ready := [cell for cell in shelf.idle if not cell.preloading]:
            cell = next((c for c in ready if c.preloaded == wants), ready[0])
            shelf.idle.remove(cell)
            if cell.alive():
                return Lent(cell, "warm", 0.0, reused=False)
            self._drop(cell)
        return None

    def give_back(self, lent: Lent, *, reusable: bool) -> None:
        """End of a job. Unless the cell is `reusable` for its caller's next job, it is destroyed.

        Its reset may still be under way.
        """
        cell = lent.cell
        with self._changed:
            self.stats.busy -= 1
            shelf = self._shelves[cell.spec.image, cell.spec.profile.name]
            keep = reusable and cell.caller is not None and cell.jobs < REUSE_JOBS and not self._closed
            if keep and cell.caller is not None:
                shelf.used.setdefault(cell.caller, []).append(cell)
            else:
                self._drop(cell)
            self._changed.notify_all()

    # --- keeping ----------------------------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                if now >= self._retry_at:
                    for shelf in self._shelves.values():
                        self._replenish(shelf, now)
                        self._expire(shelf, now)
                preloaded, preload = self._preloads(now)
                self._count()
                if preloaded is None and preload is None and now < self._reap_at:
                    self._changed.wait(TICK_S)
                    continue
            # What talks to the engine does so without the lock.
            if preloaded is not None:
                self._tend(preloaded, Cell.settle)
            if preload is not None:
                self._tend(preload, Cell.preload)
            if now >= self._reap_at:
                self._reap()

    def _tend(self, cell: Cell, act: Callable[[Cell], None]) -> None:
        """Do something to an idle cell that the engine may refuse; then the cell is of no use."""
        try:
            act(cell)
        except (EngineError, CellLost) as e:
            log.warning("preloading failed: %s", e)
            with self._changed:
                self._discard(cell)

    def _discard(self, cell: Cell) -> None:
        for shelf in self._shelves.values():
            if cell in shelf.idle:
                shelf.idle.remove(cell)
                self._drop(cell)

    def _reap(self) -> None:
        self._reap_at = time.monotonic() + REAP_S
        try:
            self.reap()
        except EngineError as e:
            with self._changed:
                self._failed(e)

    def _replenish(self, shelf: _Shelf, now: float) -> None:
        if not shelf.waiting and now - shelf.missed_at > SINK_S:
            shelf.target = max(float(self.settings.least), shelf.target - 1)
            shelf.missed_at = now
        room = self.settings.cells - len(self._cells)
        lack = int(shelf.target) + shelf.waiting - len(shelf.idle) - shelf.starting
        if shelf.waiting > room:
            self._make_room(shelf, shelf.waiting - room)
        # No more than the starters can take up: what is queued there cannot be called back.
        for _ in range(min(lack, room, STARTERS - shelf.starting)):
            shelf.starting += 1
            cell = self._new_cell(shelf)
            self._cells.add(cell)
            self._starters.submit(self._start, shelf, cell)

    def _new_cell(self, shelf: _Shelf) -> Cell:
        spec = CellSpec(
            image=shelf.image,
            profile=shelf.profile,
            runtime=self.settings.runtime,
            instance=self.settings.instance,
            worker=self.worker,
            uid=new_uid(),
            limits=shelf.profile.defaults,
        )
        return Cell(self._engine, spec)

    def _start(self, shelf: _Shelf, cell: Cell) -> None:
        try:
            cell.start()
        except (EngineError, CellLost) as e:
            with self._changed:
                shelf.starting -= 1
                self._drop(cell)
                self._failed(e)
            return
        with self._changed:
            shelf.starting -= 1
            self.failure, self._failures = None, 0
            self.stats.started += 1
            if self._closed:
                self._drop(cell)
            else:
                shelf.idle.append(cell)
            self._changed.notify_all()

    def _failed(self, error: Exception) -> None:
        """Take note of a failed start. One may be a mishap; what will not pass by itself is a state."""
        self._failures += 1
        self.stats.lost += 1
        self._retry_at = time.monotonic() + RETRY_S
        if isinstance(error, EngineDown | NoSuchImage) or self._failures >= FAILURES:
            if self.failure is None:
                log.error("cannot start sandboxes: %s", error)
            self.failure = str(error)
        else:
            log.warning("a sandbox did not start: %s", error)
        self._changed.notify_all()

    def _expire(self, shelf: _Shelf, now: float) -> None:
        surplus = len(shelf.idle) - int(shelf.target)
        old = [cell for cell in shelf.idle if now - cell.used_at > IDLE_S]
        for cell in [*old, *list(shelf.idle)[: max(0, surplus - len(old))]]:
            if not cell.preloading:
                shelf.idle.remove(cell)
                self._drop(cell)
        for caller, cells in list(shelf.used.items()):
            for cell in [c for c in cells if now - c.used_at > REUSE_IDLE_S]:
                cells.remove(cell)
                self._drop(cell)
            if not cells:
                del shelf.used[caller]

    def _make_room(self, needy: _Shelf, count: int) -> None:
        """Destroy what is least missed: used cells that waited longest for their caller, then idle ones."""
        spare: list[tuple[Cell, list[Cell] | deque[Cell]]] = []
        for shelf in self._shelves.values():
            used = [(cell, cells) for cells in shelf.used.values() for cell in cells]
            spare += sorted(used, key=lambda pair: pair[0].used_at)
        for shelf in self._shelves.values():
            if shelf is not needy:
                spare += [(cell, shelf.idle) for cell in shelf.idle]
        for cell, cells in spare[:count]:
            cells.remove(cell)
            self._drop(cell)

    def _preloads(self, now: float) -> tuple[Cell | None, Cell | None]:
        """An idle cell whose imports just ended, and one that should begin with them now."""
        done = None
        if (cell := self._preloading) is not None:
            if not cell.alive():
                self._discard(cell)
            elif cell.preloading:
                return None, None
            else:
                done = cell
            self._preloading = None
        busy = any(shelf.waiting or shelf.starting for shelf in self._shelves.values())
        if busy or now - self._taken_at < QUIET_S:
            return done, None
        for shelf in self._shelves.values():
            for cell in shelf.idle:
                if shelf.mentions and not cell.preload_tried:
                    cell.preload_tried = cell.preloading = True
                    self._preloading = cell
                    return done, cell
        return done, None

    # --- removing ---------------------------------------------------------------------------------

    def _drop(self, cell: Cell) -> None:
        try:
            self._undertakers.submit(self._bury, cell)
        except RuntimeError:  # closed meanwhile; `close` buries what is left
            return

    def _bury(self, cell: Cell) -> None:
        try:
            cell.destroy()
        except EngineError as e:
            log.warning("could not remove a container; the next sweep will: %s", e)
        with self._changed:
            self._cells.discard(cell)
            self._changed.notify_all()

    def _count(self) -> None:
        shelves = self._shelves.values()
        self.stats.idle = sum(len(s.idle) for s in shelves)
        self.stats.preloaded = sum(c.preloaded for s in shelves for c in s.idle)
        self.stats.starting = sum(s.starting for s in shelves)
