"""The table: importing this fills it."""

from tests.faults.catalogue import (
    brokers,
    databases,
    disks,
    engines,
    loops,
    moves,
    races,
    tasks,
    versions,
    workers,
)

__all__ = [
    "brokers",
    "databases",
    "disks",
    "engines",
    "loops",
    "moves",
    "races",
    "tasks",
    "versions",
    "workers",
]
