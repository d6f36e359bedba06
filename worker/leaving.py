"""A worker that is told to stop: told once it ends its jobs, told again it leaves them to others."""

import logging
import os
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from worker.advance import Steps
from worker.leases import Leases

log = logging.getLogger(__name__)

#: Seconds to remove the sandboxes, which on a busy host takes a second each; others have the jobs long before.
PARTING_S = 20.0


class Leaving:
    """See the module. `close` removes what a worker has, as far as it can."""

    def __init__(self, steps: Steps, leases: Leases, close: Callable[[], None]) -> None:
        self._steps = steps
        self._leases = leases
        self._close = close
        self._thread: threading.Thread | None = None
        self._over = False  # its jobs have ended, and the main thread puts everything away

    def told(self, *, how: str = "Warm", **_: object) -> None:
        """A signal came; `how` is Cold for one that means at once, as Celery calls it."""
        if (how == "Cold" or self._steps.draining) and self._thread is None and not self._over:
            # Not here, within a signal's handler; and Celery's own way out waits for the threads.
            self._thread = threading.Thread(target=self._now, name="leaving", daemon=True)
            self._thread.start()
        self._steps.draining = True

    def wait(self) -> None:
        """If it leaves at once, be gone with it: it puts away what the main thread would."""
        self._over = True
        if self._thread is not None:
            self._thread.join()

    def _now(self) -> None:
        late = threading.Timer(PARTING_S, os._exit, (0,))
        late.daemon = True
        late.start()
        try:
            count = self._leases.give_up()
            log.warning("leaving at once; jobs are left to others", extra={"count": count})
        except SQLAlchemyError as e:
            log.warning("the database is away; others have the jobs when their leases end: %s", e)
        try:
            self._close()
        except Exception:
            log.exception("not all could be put away")
        os._exit(0)
