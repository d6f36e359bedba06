"""The pool's keeper: one thread that sees to the cells that wait.

It has them started and given up as their shelves want, looks whether they live, and has the heavy packages
imported in them, one cell at a time and only while nothing else wants the processor.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.sandbox.cell import Cell
from worker.sandbox.engine import EngineError
from worker.sandbox.shelf import Shelf
from worker.sandbox.spec import RUNNER_MB
from worker.sandbox.stream import CellLost

if TYPE_CHECKING:
    from worker.sandbox.pool import Pool

log = logging.getLogger(__name__)

#: Seconds between looks at the shelves when nothing happens.
TICK_S = 0.25

#: Seconds without a job before a cell may import the heavy packages.
QUIET_S = 0.3

#: Seconds between looks whether idle cells live.
HEALTH_S = 5.0

#: Seconds between looks for containers that nobody knows.
REAP_S = 30.0

#: Seconds before the engine is asked again after it failed.
RETRY_S = 2.0

#: Cells that are being started for one shelf: what more is queued cannot be called back.
STARTING = 4


class Keeper:
    """See the module. Everything but what talks to the engine happens under the pool's lock."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._reap_at = 0.0
        self._look_at = 0.0
        self._preloading: Cell | None = None
        self._thread = threading.Thread(target=self._live, name="pool-keeper", daemon=True)

    def open(self) -> None:
        """Remove what is left from before, then begin."""
        self._reap()
        self._thread.start()

    def close(self) -> None:
        """Wait for its end; the pool is closed."""
        if self._thread.is_alive():
            self._thread.join(5)

    def _live(self) -> None:
        """Keep, whatever happens: without its keeper a pool never starts a cell again."""
        while not self._pool.closed:
            try:
                self._keep()
            except Exception:
                log.exception("the pool's keeper failed; it goes on")
                self._preloading = None
                time.sleep(TICK_S)

    def _keep(self) -> None:
        pool = self._pool
        while True:
            with pool.changed:
                if pool.closed:
                    return
                now = time.monotonic()
                quiet = self._quiet(now)
                short = any(shelf.waiting for shelf in pool.shelves.values())
                for shelf in list(pool.shelves.values()):
                    if shelf.done:
                        del pool.shelves[shelf.key]
                    elif now >= shelf.retry_at and shelf.runtime in pool.settings.runtimes:
                        # While jobs wait, cells are started for them alone: what was given up to make room for
                        # them would else be started again, and take the room, and be given up, and so on.
                        if shelf.waiting or not short:
                            self._replenish(shelf, now, quiet=quiet)
                        self._expire(shelf, now)
                if now >= self._look_at:
                    self._look(now)
                preloaded, preload = self._preloads(quiet=quiet)
                self._count()
                if preloaded is None and preload is None and now < self._reap_at:
                    pool.changed.wait(TICK_S)
                    continue
            # What talks to the engine does so without the lock.
            if preloaded is not None:
                self._tend(preloaded, Cell.settle)
            if preload is not None:
                self._tend(preload, Cell.preload)
            if now >= self._reap_at:
                self._reap()

    def _quiet(self, now: float) -> bool:
        busy = any(shelf.waiting or shelf.starting for shelf in self._pool.shelves.values())
        return not busy and now - self._pool.taken_at >= QUIET_S

    # --- how many ---------------------------------------------------------------------------------

    def _replenish(self, shelf: Shelf, now: float, *, quiet: bool) -> None:
        pool = self._pool
        shelf.sink(now)
        lack = shelf.lack(now, quiet=quiet)
        if lack <= 0 and not shelf.waiting:
            return
        room = self._room()
        if shelf.waiting > room:
            self._make_room(shelf, shelf.waiting - room)
        elif shelf.waiting and shelf.idle and not pool.fits(shelf.wanted_mb):
            self._make_room(shelf, 1)  # a cell waits, and the memory for its job is held by others
        for _ in range(min(lack, room, STARTING - shelf.starting)):
            pool.crew.begin(shelf)

    def _room(self) -> int:
        """Cells that may be started beside those there are."""
        pool = self._pool
        room = pool.settings.cells - len(pool.cells)
        if pool.settings.memory_mb:
            room = min(room, (pool.settings.memory_mb - pool.memory_mb()) // RUNNER_MB)
        return max(room, 0)

    def _expire(self, shelf: Shelf, now: float) -> None:
        for cell in shelf.surplus(now):
            shelf.idle.remove(cell)
            self._pool.stats.renewed += 1
            self._pool.crew.drop(cell)
        for caller, cell in list(shelf.forgotten(now)):
            shelf.drop_used(caller, cell)
            self._pool.crew.drop(cell)

    def _make_room(self, needy: Shelf, count: int) -> None:
        """Destroy what is least missed: used cells that waited longest for their caller, then idle ones."""
        shelves = self._pool.shelves.values()
        used = [
            (cell, shelf, caller) for shelf in shelves for caller, cells in shelf.used.items() for cell in cells
        ]
        used.sort(key=lambda each: each[0].used_at)
        for cell, shelf, caller in used[:count]:
            shelf.drop_used(caller, cell)
            self._pool.crew.drop(cell)
        idle: list[tuple[Cell, deque[Cell]]] = [
            (cell, shelf.idle) for shelf in shelves if shelf is not needy for cell in shelf.idle
        ]
        for cell, cells in idle[: max(0, count - len(used))]:
            cells.remove(cell)
            self._pool.crew.drop(cell)

    # --- how they are -----------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Give up idle cells that died or said something while nobody asked."""
        self._look_at = now + HEALTH_S
        for shelf in self._pool.shelves.values():
            for cell in list(shelf.idle):
                if cell is not self._preloading and not cell.alive():
                    shelf.idle.remove(cell)
                    self._pool.stats.lost += 1
                    self._pool.crew.drop(cell)

    def _preloads(self, *, quiet: bool) -> tuple[Cell | None, Cell | None]:
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
        if not quiet:
            return done, None
        for shelf in self._pool.shelves.values():
            for cell in shelf.idle:
                if shelf.mentions and not cell.preload_tried:
                    cell.preload_tried = cell.preloading = True
                    self._preloading = cell
                    return done, cell
        return done, None

    def _tend(self, cell: Cell, act: Callable[[Cell], None]) -> None:
        """Do something to an idle cell that the engine may refuse; then the cell is of no use."""
        try:
            act(cell)
        except (EngineError, CellLost) as e:
            log.warning("preloading failed: %s", e)
            with self._pool.changed:
                self._discard(cell)

    def _discard(self, cell: Cell) -> None:
        for shelf in self._pool.shelves.values():
            if cell in shelf.idle:
                shelf.idle.remove(cell)
                self._pool.stats.lost += 1
                self._pool.crew.drop(cell)

    def _reap(self) -> None:
        self._reap_at = time.monotonic() + REAP_S
        try:
            self._pool.reap()
        except EngineError as e:
            self._reap_at = time.monotonic() + RETRY_S
            with self._pool.changed:
                self._pool.failed(e)
        else:
            with self._pool.changed:
                self._pool.answers()

    def _count(self) -> None:
        shelves = self._pool.shelves.values()
        stats = self._pool.stats
        stats.idle = sum(len(s.idle) for s in shelves)
        stats.preloaded = sum(c.preloaded for s in shelves for c in s.idle)
        stats.starting = sum(s.starting for s in shelves)
        stats.used = sum(len(cells) for s in shelves for cells in s.used.values())
        stats.memory_mb = self._pool.memory_mb()
