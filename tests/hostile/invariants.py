"""What holds after every entry of the catalogue, whatever it did."""

import re
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from domain.tables.base import metadata
from tests.harness import eventually
from tests.hostile.entries import Result
from tests.hostile.stage import JOBS, LANGUAGES, WARM, Stage

#: Seconds that a job may take beyond its limit, from when it had its sandbox to when its end was stored.
GRACE_S = 5.0

#: What a worker may hold more than before: descriptors and threads of its own life, and memory that its
#: allocator keeps after large outputs. Each of its threads, one for each job, opens connections to engine,
#: database, broker and gateway when it first needs them; what leaked with every entry would pass this soon.
MORE_DESCRIPTORS = 4 * JOBS
MORE_THREADS = 2
MORE_MEMORY_MB = 48

#: Seconds until a failed wait for quiet is told. A busy host starts and removes containers slowly, and a gVisor
#: sandbox that ended by itself may be running for its engine for a minute more; until then it is not removed.
SETTLED_S = 180.0

_CONTAINER = re.compile(r"/docker/([0-9a-f]{64})|docker-([0-9a-f]{64})\.scope")


@dataclass(frozen=True)
class Footprint:
    """What a process holds: counts, and MB of resident memory."""

    descriptors: int
    threads: int
    memory_mb: float


def footprint(pid: int) -> Footprint:
    """Of a live process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    return Footprint(
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(list(Path(f"/proc/{pid}/task").iterdir())),
        int(resident[1]) / 1024,
    )


def identity(pid: int) -> str:
    """A process id, and when that process was started: no other process is the same."""
    return f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2].split()[19]}"


def engine_pid(base_url: str) -> int | None:
    """The engine's process, from the other end of its socket; None if it is not on a local one."""
    if not base_url.startswith("http+docker://local"):
        return None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/var/run/docker.sock")
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little")


@dataclass(frozen=True)
class Process:
    """One that is in a container: its user, and what it is."""

    user: int
    what: str

    @property
    def guest(self) -> bool:
        """Whether it runs as the user of a program."""
        return self.user >= 1_000_000

    @property
    def interpreter(self) -> bool:
        """Whether it may be one that was started ahead and waits for a program."""
        return any(f"({name})" in self.what for name in ("node", "bash", "R"))


def guests_of(processes: list[Process]) -> list[Process]:
    """What is left of programs: all guests, unless there is only one and it waits for the next program."""
    found = [process for process in processes if process.guest]
    return [] if len(found) == 1 and found[0].interpreter else found


def processes_by_container() -> dict[str, list[Process]]:
    """For each container that any process of this host is in, its processes."""
    found: dict[str, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                named = _CONTAINER.search((entry / "cgroup").read_text())
                if named is None:
                    continue
                # The saved one: a helper of the runner that acts as the guest for a while can come back.
                user = int((entry / "status").read_text().partition("\nUid:")[2].split()[2])
                what = (entry / "stat").read_text()[:40]
            except OSError:
                continue  # it ended
            found.setdefault(named[1] or named[2], []).append(Process(user, what))
    return found


class Invariants:
    """Made on a warm stage, whose state is the baseline; `check` is called after every entry."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._ours: set[str] = set()  # every container seen so far
        self._kept = 0
        self._cells = 0
        eventually(self._steady, "the pool is full and quiet", SETTLED_S)
        self._identities = self._look_identities()
        self._temporary = self._look_temporary()
        self._baseline = footprint(stage.worker.process.pid)
        self._secrets = [
            stage.canaries.secret,
            stage.mallory_key,
            stage.alice_key,
            stage.model_key,
            stage.postgres.url,
            str(stage.folder),
        ]

    # --- 1: one final verdict, right and in time --------------------------------------------------

    def verdict(self, result: Result, right: tuple[str, ...], timeout_s: float) -> None:
        """The job has one final verdict out of `right`, in time, and keeps it."""
        job = result.job
        shown = {name: job[name] for name in ("state", "verdict", "reason", "exit_code", "signal", "usage")}
        assert job["state"] == "finished", shown
        assert job["verdict"] in right, (shown, right, result.out[-300:], result.err[-800:])
        runs = len(job["attempts"])
        assert runs == (2 if job["verdict"] == "sandbox_crash" else 1), job["attempts"]
        began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
        # Where no sandbox was waiting, the job waited for one; that is not the program's time.
        took = (ended - began).total_seconds() - (job["usage"]["sandbox_start_s"] or 0.0)
        assert took <= runs * (timeout_s + GRACE_S), f"{took:.1f} s with a limit of {timeout_s} s"
        again = self.stage.mallory.get(job["links"]["self"]).json()
        assert again == job, "a final job changed"

    # --- 3 to 6 -----------------------------------------------------------------------------------

    def check(self, result: Result | None = None, keeps: int = 0) -> None:
        """After an entry: nothing is left, nothing was touched, nobody was restarted. `keeps`: used cells."""
        self._kept_for(keeps)
        eventually(self._steady, self._why_unsteady, SETTLED_S)
        assert self._look_identities() == self._identities, "a process of the service was restarted"
        assert self._look_temporary() == self._temporary
        eventually(self._slim, lambda: f"back to {self._baseline}: {footprint(self._worker)}", SETTLED_S)
        touched = self.stage.canaries.touched()
        assert touched is None, touched
        self._no_secret(result)

    @property
    def _worker(self) -> int:
        return self.stage.worker.process.pid

    def _kept_for(self, count: int) -> None:
        now = time.monotonic()
        kept = [until for until in self.stage.kept_until if until > now]
        self.stage.kept_until = [*kept, *[now + 75] * count]

    def _steady(self) -> bool:
        """Only idle cells exist, no guest process is in them, and no process is in a container that is gone."""
        ids = set(self.stage.containers())
        self._ours |= ids
        inside = processes_by_container()
        guests = [i for i in ids if guests_of(inside.get(i, []))]
        ghosts = (self._ours - ids) & inside.keys()
        if not self._cells and not guests:
            self._cells = self._pool_full(ids)
        most = self._cells + len(self.stage.kept_until)
        return bool(self._cells) and self._cells <= len(ids) <= most and not guests and not ghosts

    def _pool_full(self, ids: set[str]) -> int:
        """How many cells a full pool has, once it is full; until then 0."""
        row = self.stage.table.worker(self.stage.instance)
        pool = row.facts["pool"] if row is not None else {}
        full = pool and pool["idle"] == len(ids) and not pool["busy"] and not pool["starting"]
        return len(ids) if full and len(ids) >= WARM * len(LANGUAGES) else 0

    def _why_unsteady(self) -> str:
        ids = set(self.stage.containers())
        inside = processes_by_container()
        row = self.stage.table.worker(self.stage.instance)
        return (
            f"only {self._cells} idle cells are left: containers {sorted(i[:12] for i in ids)}, "
            f"guests {[(i[:12], p) for i in ids for p in guests_of(inside.get(i, []))]}, "
            f"ghosts {sorted((self._ours - ids) & inside.keys())}, "
            f"the worker says {row.facts['pool'] if row is not None else None}"
        )

    def _slim(self) -> bool:
        now = footprint(self._worker)
        kept = len(self.stage.kept_until)
        return (
            now.descriptors <= self._baseline.descriptors + MORE_DESCRIPTORS + kept
            and now.threads <= self._baseline.threads + MORE_THREADS
            and now.memory_mb <= self._baseline.memory_mb + MORE_MEMORY_MB
        )

    def _look_identities(self) -> dict[str, str]:
        stage = self.stage
        pids: dict[str, int | None] = {
            "api": stage.server.process.pid,
            "worker": stage.worker.process.pid,
            "engine": engine_pid(stage.engine.api.base_url),
            "database": stage.postgres.pid,
            "broker": stage.valkey.pid,
        }
        return {name: identity(pid) for name, pid in pids.items() if pid is not None}

    def _look_temporary(self) -> list[str]:
        return sorted(str(path) for path in self.stage.temporary.rglob("*"))

    def _no_secret(self, result: Result | None) -> None:
        """No secret of the host is in an output, a row or a log."""
        if result is not None:
            for name in self._secrets:
                assert name.encode() not in result.out + result.err, f"{name} was printed"
        logs = self.stage.logs()
        wanted = [
            self.stage.canaries.secret,
            self.stage.mallory_key,
            self.stage.alice_key,
            self.stage.model_key,
        ]
        for secret in wanted:
            assert secret not in logs, f"{secret} was logged"
        likes = [f"%{form}%" for secret in wanted for form in (secret, secret.encode().hex())]
        with self.stage.table.engine.connect() as connection:
            for table in metadata.sorted_tables:
                query = text(f"SELECT count(*) FROM {table.name} AS t WHERE t::text LIKE ANY(:likes)")  # noqa: S608
                assert connection.execute(query, {"likes": likes}).scalar_one() == 0, table.name
