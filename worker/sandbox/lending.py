"""What a pool is made with, and what it gives: its sizes, a cell that is lent, or word that there is none."""

from dataclasses import dataclass

from domain.states import Runtime
from worker.sandbox.cell import Cell
from worker.sandbox.shelf import Shelf


class PoolUnavailable(Exception):
    """No cell can be had now; nothing ran."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Sizes. `least` and `most` bound the idle cells of a shelf, `cells` and `memory_mb` (0: not) all cells."""

    instance: str
    runtimes: tuple[Runtime, ...] = (Runtime.RUNC,)
    least: int = 2
    most: int = 8
    cells: int = 24
    memory_mb: int = 0


@dataclass(slots=True)
class Lent:
    """A cell and how it was come by."""

    cell: Cell
    shelf: Shelf
    start: str  # 'warm' or 'cold'
    waited_s: float
    reused: bool
