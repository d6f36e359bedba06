"""Hears that jobs were cancelled, so that what they run is killed at once and not at the next heartbeat."""

import logging
import threading

from worker.broker import Bell
from worker.leases import Leases

log = logging.getLogger(__name__)


class Cancels:
    """A thread that listens, and has the leases looked at."""

    def __init__(self, bell: Bell, leases: Leases) -> None:
        self._bell = bell
        self._leases = leases
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="cancels", daemon=True)

    def open(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(5)

    def _listen(self) -> None:
        for job_id in self._bell.cancels(self._stop.is_set):
            try:
                self._leases.told(job_id)
            except Exception:  # a thread that ended unnoticed would make every cancel slow
                log.exception("a cancelled job could not be looked at; the next heartbeat does")
