"""`python -m tests.stalling`: the API, whose main thread stands still from a signal until a file is gone.

The product has no seam for that and needs none: a signal's handler runs wherever that thread happens to be.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from api.__main__ import main
from tests.harness import eventually
from tests.integration.api.harness import Server

#: The variable that names the file. In it stands `computing` or `waiting`.
FILE = "STALL_FILE"

#: Seconds after which it goes on whatever becomes of the test.
MOST_S = 60.0


#: How often the loop stood still.
STALLS = "retort_loop_stalls_total"


def told_of(server: Server) -> list[dict[str, Any]]:
    """The lines of its log that say what held the loop up."""
    return [line for line in server.lines() if f"in {stand_still.__name__}" in line.get("stack", "")]


def value(text: str, name: str) -> float:
    """A metric without labels."""
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def _begun(file: Path) -> Path:
    return file.with_suffix(".begun")


def stand_still(_signal: int, _frame: FrameType | None) -> None:
    """Give nobody else in this thread a turn."""
    file, until = Path(os.environ[FILE]), time.monotonic() + MOST_S
    computing = file.read_text() == "computing"
    _begun(file).touch()
    while file.exists() and time.monotonic() < until:
        if computing:
            sum(number * number for number in range(10_000))
        else:
            time.sleep(0.01)


@contextmanager
def standing_still(server: Server, file: Path, *, computing: bool = False) -> Iterator[None]:
    """A block in which the event loop of a server that was started so does not move."""
    _begun(file).unlink(missing_ok=True)
    file.write_text("computing" if computing else "waiting")
    try:
        server.process.send_signal(signal.SIGUSR2)
        eventually(_begun(file).exists, "the event loop stands still")
        yield
    finally:
        file.unlink()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, stand_still)
    main()
