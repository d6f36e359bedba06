"""The table: importing this fills it."""

from tests.faults.catalogue import brokers, databases, disks, engines, loops, moves, races, tasks, workers

__all__ = ["brokers", "databases", "disks", "engines", "loops", "moves", "races", "tasks", "workers"]
