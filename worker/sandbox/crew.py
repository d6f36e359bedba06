"""The pool's crew: starter threads start its cells, undertakers remove them. No job's thread does either."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from worker.sandbox.cell import Cell
from worker.sandbox.engine import EngineError
from worker.sandbox.shelf import Shelf
from worker.sandbox.spec import CellSpec, new_uid
from worker.sandbox.stream import CellLost

if TYPE_CHECKING:
    from worker.sandbox.pool import Pool

log = logging.getLogger(__name__)

#: Cells started and removed at the same time. More does not help: the engine's work is all CPU.
STARTERS = 4
UNDERTAKERS = 2


class Crew:
    """See the module. `begin` is called under the pool's lock; what it causes happens without."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._starters = ThreadPoolExecutor(STARTERS, "cell-starter")
        self._undertakers = ThreadPoolExecutor(UNDERTAKERS, "cell-undertaker")

    def close(self) -> None:
        """Remove every cell; the pool is closed."""
        self._starters.shutdown(wait=True, cancel_futures=True)
        for cell in list(self._pool.cells):
            self._bury(cell)
        self._undertakers.shutdown(wait=True)

    def begin(self, shelf: Shelf) -> None:
        """Have a cell started for a shelf."""
        spec = CellSpec(
            image=shelf.image,
            profile=shelf.profile,
            runtime=shelf.runtime,
            instance=self._pool.settings.instance,
            worker=self._pool.worker,
            uid=new_uid(),
            limits=shelf.limits,
        )
        cell = Cell(self._pool.engine, spec)
        shelf.starting += 1
        shelf.started_at = time.monotonic()
        self._pool.cells.add(cell)
        self._starters.submit(self._start, shelf, cell)

    def _start(self, shelf: Shelf, cell: Cell) -> None:
        began = time.monotonic()
        try:
            cell.start()
        except (EngineError, CellLost) as e:
            with self._pool.changed:
                shelf.starting -= 1
                self.drop(cell)
                self._pool.failed(e, shelf)
            return
        took = time.monotonic() - began
        with self._pool.changed:
            shelf.starting -= 1
            shelf.works()
            self._pool.failure = None
            self._pool.stats.start_took(shelf.image, shelf.runtime.value, took)
            if self._pool.closed:
                self.drop(cell)
            else:
                shelf.idle.append(cell)
            self._pool.changed.notify_all()

    def drop(self, cell: Cell) -> None:
        """Have a cell removed that is on no shelf any more."""
        try:
            self._undertakers.submit(self._bury, cell)
        except RuntimeError:  # closed meanwhile; `close` buries what is left
            return

    def _bury(self, cell: Cell) -> None:
        try:
            cell.destroy()
        except EngineError as e:
            log.warning("could not remove a container; the next sweep will: %s", e)
        with self._pool.changed:
            self._pool.cells.discard(cell)
            self._pool.changed.notify_all()
