"""The processes of the service: the history of each, and the end of those that a crash left behind."""

import signal
import time
from dataclasses import dataclass, field
from typing import Any

from retort import processes
from retort.embedded import Postgres, Valkey
from retort.processes import Program
from retort.state import StateFolder

#: The processes beside the API: programs, questions to models where a gateway is configured, and webhooks.
WORKERS = ("worker", "models", "hooks")


@dataclass
class Managed:
    """A process and its history of crashes."""

    name: str
    runs: Program | Postgres | Valkey
    crashes: int = 0
    delay_s: float = 0.5
    started_at: float = field(default_factory=time.monotonic)
    again_at: float | None = None  # when to start it again; None while it runs

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self.runs.process.poll() if self.runs.process is not None else None

    def facts(self) -> dict[str, Any]:
        """What `retort status` tells of it, and `end_recorded` finds it by."""
        process = self.runs.process
        pid = process.pid if process is not None and process.poll() is None else None
        return {
            "title": self.runs.title,
            "pid": pid,
            "begun": processes.begun(pid) if pid else None,
            "crashes": self.crashes,
        }


def describe_exit(code: int) -> str:
    """Popen's exit code in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def end_recorded(state: StateFolder) -> bool:
    """End what a supervisor that was killed may have left; whether there was something.

    The caller knows that no supervisor runs. A pid counts only together with the time at which it began.
    """
    recorded = [
        (facts["pid"], facts["begun"])
        for name, facts in state.status().get("processes", {}).items()
        if name in ("api", *WORKERS) and facts.get("pid") and facts.get("begun")
    ]

    def left() -> list[int]:
        return [pid for pid, begun in recorded if processes.begun(pid) == begun]

    found = bool(left())
    processes.end_all(left, processes.POLITE)
    for name, kind in (("postgres", Postgres), ("valkey", Valkey)):
        server = kind(state.root / name, state.sockets)
        found = found or bool(processes.working_in(server.data_dir, server.program))
        server.stop()
    state.forget_status()
    return found
