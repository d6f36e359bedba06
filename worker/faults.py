"""Deaths on purpose, for tests of crashes: a process that kills itself at a boundary of a step.

A test arms a running process by a file in the folder of fuses, named after the boundary: the next one to
pass it removes the file and dies, as by a crash. A file `BOUNDARY.JOB` is never removed: that job kills whoever
brings it there. Without the setting `at` does nothing, and the setting needs another one that says that this is
a test.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from uuid import UUID

#: In the order in which a job passes them; those of webhooks are passed by their sender.
BOUNDARIES = (
    "container_created",  # ahead of any job
    "asking",
    "answered",
    "stored",
    "claimed",
    "cell_taken",
    "program_started",
    "artifact_stored",
    "output_read",
    "ending",
    "ended",
    "hook_taken",
    "hook_sent",
)

_fuses: Path | None = None


def arm(folder: Path | None) -> None:
    """Look for fuses in a folder from now on; None: never."""
    global _fuses
    _fuses = folder


def at(boundary: str, job_id: UUID | None = None) -> None:
    """A boundary is passed, perhaps of a job."""
    if _fuses is None:
        return
    if job_id is not None and (_fuses / f"{boundary}.{job_id}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    with suppress(FileNotFoundError):
        (_fuses / boundary).unlink()  # of several processes or threads one gets it
        os.kill(os.getpid(), signal.SIGKILL)
