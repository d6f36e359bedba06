"""The table of faults: one entry for each way to hurt the service, and what must hold nevertheless."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from tests.faults.host import Host
from tests.faults.stack import Stack
from tests.faults.work import Work


class NotHere(Exception):
    """The fault cannot be injected on this machine; the message says why."""


@dataclass
class Trial:
    """One repetition: what it may use, and what it measured."""

    stack: Stack
    seed: int
    outage_s: float = 1.0  # for so long a model is away, at the least
    figures: dict[str, list[float]] = field(default_factory=dict)

    @cached_property
    def chance(self) -> random.Random:
        """Draws moment and victim."""
        return random.Random(self.seed)  # noqa: S311 (seeded on purpose)

    @cached_property
    def work(self) -> Work:
        """The jobs."""
        return Work(self.stack)

    @cached_property
    def victim(self) -> Host:
        """The worker that is hurt."""
        return self.chance.choice(self.stack.hosts)

    def moment(self, most_s: float) -> float:
        """Some moment, in seconds from now."""
        return self.chance.uniform(0, most_s)

    def measure(self, name: str, seconds: float) -> None:
        """Keep a figure."""
        self.figures.setdefault(name, []).append(seconds)

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """A block in which workers that end are started again, as their supervisor does."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.05):
                for host in self.stack.hosts:
                    if not host.alive:
                        host.start(wait=False)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)


#: Injects the fault, waits until all is well again, judges; the seconds that recovery took.
Inject = Callable[[Trial], float]


@dataclass(frozen=True)
class Fault:
    """A row of the table, or one way of it.

    `within_s`: what recovery may take. `restarts`: it needs a container engine that may be restarted, so one of
    its own.
    """

    name: str  # F03.claimed: row F03
    what: str
    promise: str
    within_s: float
    inject: Inject
    restarts: bool = False

    @property
    def row(self) -> str:
        """The row that it belongs to."""
        return self.name.partition(".")[0]


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, what: str, promise: str, *, within_s: float, restarts: bool = False
) -> Callable[[Inject], Inject]:
    """Enter a function into the table."""

    def enter(inject: Inject) -> Inject:
        assert name not in FAULTS, name
        FAULTS[name] = Fault(name, what, promise, within_s, inject, restarts)
        return inject

    return enter


#: Rows that are shown elsewhere, or cannot be injected on one machine.
ELSEWHERE = {
    "F23": "tests/hostile: guests are the first that the kernel ends, the worker is not touched",
    "F24": "tests/integration/model: each failure of a gateway has its rule",
    "F26": "tests/integration/webhooks: retries, 410, redirects, giving up",
    "F36": "make soak: 10,000 jobs, then nothing is left and nothing has grown",
    "F39": "tests/integration/test_artifact_faults.py: between storing artifacts and finishing",
}
