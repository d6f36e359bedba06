"""One shelf of the pool: the cells of an image, profile and tier, and how many should wait there."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from domain.limits import Limits, Profile
from domain.states import Runtime
from worker.sandbox.cell import Cell

#: Seconds without a job that had to wait, after which the target of a shelf sinks by one.
SINK_S = 10.0

#: Seconds without a job, after which the last cell of a shelf that need not be kept is given up.
UNUSED_S = 300.0

#: Seconds after which an idle cell is replaced, and a used one of a caller is given up.
RENEW_S = 1800.0
REUSE_IDLE_S = 60.0

#: In quiet times a kept shelf starts a cell at least this often (seconds), and gives up its oldest: what a job
#: will need is then in the caches of engine and kernel, and that it still works has just been seen.
KEEP_WARM_S = 300.0

#: Failed starts in a row that count as a state, and seconds before the next try.
FAILURES = 3
RETRY_S = 2.0

#: What tells one shelf from another: image, name of the profile, tier; for cells made to order, what for.
Key = tuple[str, str, str, Limits | None]


@dataclass(slots=True)
class Shelf:
    """See the module. Only its pool touches it, under the pool's lock."""

    image: str
    profile: Profile
    runtime: Runtime
    limits: Limits  # that its cells are started with
    to_order: bool = False  # for jobs whose limits cannot be set on a running container; none is kept ahead
    least: int = 0  # idle cells that are kept even when unused
    target: float = 0.0
    mentions: tuple[bytes, ...] = ()
    idle: deque[Cell] = field(default_factory=deque)  # the oldest first
    used: dict[str, list[Cell]] = field(default_factory=dict)  # by caller
    starting: int = 0
    waiting: int = 0
    wanted_mb: int = 0  # the memory of the job that waits, or waited last
    busy: int = 0
    missed_at: float = 0.0
    taken_at: float = 0.0
    started_at: float = 0.0
    failures: int = 0
    failure: str | None = None  # why no cell of it can be started, for a person
    retry_at: float = 0.0

    @property
    def key(self) -> Key:
        """Its name."""
        return (self.image, self.profile.name, self.runtime, self.limits if self.to_order else None)

    @property
    def done(self) -> bool:
        """Whether nothing is left of a shelf that was there for one job's sake."""
        return self.to_order and not (self.waiting or self.starting or self.busy or self.idle or self.used)

    def missed(self, now: float, most: int, memory_mb: int) -> None:
        """A job that wants so much memory has to wait: keep one more from now on."""
        self.missed_at = now
        self.wanted_mb = memory_mb
        if not self.to_order:
            self.target = min(self.target + 1, most)

    def sink(self, now: float) -> None:
        """Keep fewer where no job had to wait for a while; none at the end where none came at all."""
        if self.waiting or now - self.missed_at <= SINK_S:
            return
        floor = self.least if self.to_order or now - self.taken_at > UNUSED_S else max(self.least, 1)
        if self.target > floor:
            self.target -= 1
            self.missed_at = now

    def lack(self, now: float, *, quiet: bool) -> int:
        """Cells to start now."""
        lack = int(self.target) + self.waiting - len(self.idle) - self.starting
        if lack <= 0 and quiet and self.least and not self.starting and now - self.started_at > KEEP_WARM_S:
            return 1
        return lack

    def surplus(self, now: float) -> list[Cell]:
        """Idle cells to give up: the old ones, and the oldest of those beyond the target."""
        old = [cell for cell in self.idle if now - cell.used_at > RENEW_S]
        more = len(self.idle) - int(self.target) - len(old)
        rest = [cell for cell in self.idle if cell not in old]
        return [cell for cell in [*old, *rest[: max(0, more)]] if not cell.preloading]

    def forgotten(self, now: float) -> Iterator[tuple[str, Cell]]:
        """Used cells whose caller did not come back."""
        for caller, cells in self.used.items():
            yield from ((caller, cell) for cell in cells if now - cell.used_at > REUSE_IDLE_S)

    def take_used(self, caller: str) -> Cell | None:
        """A cell in which this caller's jobs ran before."""
        cells = self.used.get(caller)
        if not cells:
            return None
        cell = cells.pop()
        if not cells:
            del self.used[caller]
        return cell

    def drop_used(self, caller: str, cell: Cell) -> None:
        """No longer keep a used cell."""
        self.used[caller].remove(cell)
        if not self.used[caller]:
            del self.used[caller]

    def failed(self, why: str, now: float, *, for_good: bool) -> bool:
        """Take note of a failed start; whether that is a state now. One alone may be a mishap."""
        self.failures += 1
        self.retry_at = now + RETRY_S
        if for_good or self.failures >= FAILURES:
            self.failure = why
        return self.failure is not None

    def works(self) -> None:
        """A cell started."""
        self.failures, self.failure = 0, None
