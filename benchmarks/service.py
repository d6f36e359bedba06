"""A service of our own, in a folder of its own on a port of its own. Another one is never touched."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from retort import commands
from retort.embedded import Postgres, Valkey
from retort.state import VARIABLE, StateFolder

#: What would lead our service to the database, the broker or the name of another one.
_FOREIGN = ("RETORT_DATABASE_URL", "RETORT_REDIS_URL", "RETORT_INSTANCE", "RETORT_API_KEY", "RETORT_URL")


class Service:
    """A running service; a context manager.

    `more` is added to its environment; `house` is the checkout whose code runs.
    """

    def __init__(self, more: Mapping[str, str] | None = None, house: Path = commands.HOUSE) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="retort-bench-"))
        self._state = StateFolder(self._folder / "state")
        kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        modules = os.pathsep.join(filter(None, [str(house), kept.get("PYTHONPATH")]))
        self._env = {**kept, VARIABLE: str(self._state.root), "PYTHONPATH": modules, **(more or {})}
        self.up_s = 0.0

    def __enter__(self) -> "Service":
        try:
            self.up_s = self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        shutil.rmtree(self._folder, ignore_errors=True)

    def up(self) -> float:
        """Start it and wait until it is ready; seconds."""
        began = time.perf_counter()
        self._run("up", "--detach", "--port", "0", timeout_s=240)
        return time.perf_counter() - began

    def down(self) -> None:
        """End it, if it runs."""
        self._run("down", timeout_s=120)

    def _run(self, *arguments: str, timeout_s: float) -> None:
        done = subprocess.run(
            commands.python("retort.cli.main", *arguments),
            env=self._env,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"retort {arguments[0]} failed:\n{done.stdout}")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        url = urlsplit(self._state.status()["url"])
        assert url.hostname is not None
        assert url.port is not None
        return url.hostname, url.port

    @property
    def database_url(self) -> str:
        """Its database."""
        return Postgres(self._state.root / "postgres", self._state.sockets).url

    @property
    def redis_url(self) -> str:
        """Its broker."""
        return Valkey(self._state.root / "valkey", self._state.sockets).url

    @property
    def key(self) -> str:
        """Its API key."""
        key = self._state.api_key()
        assert key is not None
        return key

    @property
    def instance(self) -> str:
        """The name that its containers carry."""
        return self._state.instance

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by name."""
        processes = self._state.status()["processes"]
        return {name: facts["pid"] for name, facts in processes.items() if facts["pid"]}
