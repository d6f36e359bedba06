"""The folder in which one installation keeps what must outlive its processes. docs/operations.md lists it.

.retort/
  lock          held by the running supervisor, whose process id is in it
  up.json       what it knows of its processes, for `retort status`
  api-key       the first key, readable by the owner alone
  webhook-key   what seals the secrets of webhooks, likewise
  logs/         one file for each process
  postgres/  valkey/  run/     data and sockets of the embedded servers
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

VARIABLE = "RETORT_STATE_DIR"


class AlreadyRunning(Exception):
    """Another supervisor holds the folder."""

    def __init__(self, root: Path, pid: int | None) -> None:
        super().__init__(
            f"Retort is already running in {root} (process {pid or 'unknown'}). "
            f"`retort status` shows it, `retort down` ends it; {VARIABLE} chooses another folder."
        )


class StateFolder:
    """Paths and the few facts kept in them."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.logs = self.root / "logs"
        self.sockets = self.root / "run"
        self._lock = self.root / "lock"
        self._status = self.root / "up.json"
        self._api_key = self.root / "api-key"
        self._webhook_key = self.root / "webhook-key"

    @classmethod
    def find(cls) -> "StateFolder":
        """`RETORT_STATE_DIR`, else `.retort` in the current folder."""
        return cls(Path(os.environ.get(VARIABLE) or ".retort"))

    @property
    def instance(self) -> str:
        """The worker's name: `RETORT_INSTANCE`, or one that no other folder on any machine has.

        Workers of one name take each other's sandboxes for the remains of a crash.
        """
        if chosen := os.environ.get("RETORT_INSTANCE"):
            return chosen
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip("-.")[:40] or "host"
        return f"{host}-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]}"

    def create(self) -> None:
        """Make the folder, for its owner alone: it holds a key and a database."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self.logs.mkdir(exist_ok=True)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only supervisor of this folder.

        Raises:
            AlreadyRunning: there is one.
        """
        self.create()
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for attempt in range(20):  # `holder` below takes the lock for an instant, too
                with suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if attempt == 19:
                    raise AlreadyRunning(self.root, self.holder())
                time.sleep(0.01)
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            yield
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """Process id of the running supervisor, 0 in the instant before it is known; None without one."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 20) or 0)
        else:
            return None
        finally:
            os.close(descriptor)

    def write_status(self, status: dict[str, Any]) -> None:
        """Replace what `status` reads."""
        self._replace(self._status, json.dumps(status, indent=2))

    def status(self) -> dict[str, Any]:
        """What the supervisor last wrote; empty when there is nothing to read."""
        try:
            found = json.loads(self._status.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def forget_status(self) -> None:
        """There is no supervisor any more."""
        self._status.unlink(missing_ok=True)

    @property
    def api_key_file(self) -> Path:
        """Where the first key is."""
        return self._api_key

    def api_key(self) -> str | None:
        """The first key, if it was created from this folder."""
        try:
            return self._api_key.read_text().strip() or None
        except OSError:
            return None

    def keep_api_key(self, key: str) -> None:
        """Store it, readable by the owner alone."""
        self._replace(self._api_key, key + "\n")

    def webhook_key_file(self) -> Path:
        """Where the key is that seals the secrets of webhooks; made once, and never changed by us."""
        if not self._webhook_key.exists():
            self._replace(self._webhook_key, secrets.token_urlsafe(32) + "\n")
        return self._webhook_key

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            file.write(text)
        fresh.rename(path)
