"""A disk that is full: of artifacts, of the database, of the engine."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import text

from tests.faults.catalogue.databases import Probe, recovered
from tests.faults.catalogue.engines import again
from tests.faults.catalogue.workers import AGAIN_S, at_work
from tests.faults.disk import fill, mounted
from tests.faults.entries import NotHere, Trial, fault
from tests.faults.work import TWICE_S
from tests.harness import eventually

#: Room that a database is given beyond what it has, in MB: it starts with that, and the rest is filled.
ROOM_MB = 48


@contextmanager
def small_disk(trial: Trial, folder: Path, size_mb: int) -> Iterator[None]:
    """A file system of its own at `folder`."""
    with ExitStack() as closing:
        try:
            closing.enter_context(mounted(folder, trial.stack.folder / "disk.img", size_mb))
        except subprocess.CalledProcessError as reason:
            raise NotHere(f"no file system can be mounted here: {reason.stderr.strip()}") from None
        yield


@fault(
    "F22.artifacts",
    "the disk of the artifacts and of a worker's temporary files is full",
    "runs end right, what could not be kept is named; it recovers alone when there is room",
    within_s=30,
)
def disk_full(trial: Trial) -> float:
    work, stack, victim = trial.work, trial.stack, trial.victim
    others = [host for host in stack.hosts if host is not victim]
    folder = stack.folder / "small"
    with small_disk(trial, folder, 24):
        for host in stack.hosts:
            host.kill()
        temporary = folder / "tmp"
        temporary.mkdir()
        victim.start(environment={"TMPDIR": str(temporary)}, storage_url=(folder / "storage").as_uri())
        try:
            filler = fill(folder)
            more = "open('kept', 'wb').write(os.urandom(3 << 19))"
            work.submit(trial.chance.randint(1, 3), more=more)
            work.all_end()
            work.judge(most_attempts=1)
            assert set(_stored(trial)) == {0}, "an artifact was stored on a full disk"
            for job_id in work.expected:
                (ran,) = stack.table.attempts(job_id)
                assert ran.left_out == {"files": {"kept": "not_stored"}, "more": 0}
            assert victim.alive
            filler.unlink()
            began = time.monotonic()
            work.expected.clear()
            work.submit(2, more=more)
            work.all_end()
            took = time.monotonic() - began
            work.judge(most_attempts=1)
            assert set(_stored(trial)) == {1}
        finally:
            victim.kill()
            for host in (victim, *others):
                host.start(wait=False)
            for host in stack.hosts:
                again(trial, host)
    shutil.rmtree(folder, ignore_errors=True)
    return took


def _stored(trial: Trial) -> list[int]:
    ids = list(trial.work.expected)
    with trial.stack.table.engine.connect() as connection:
        query = text(
            "SELECT coalesce(sum(artifacts), 0) AS n FROM attempts WHERE job_id = ANY(:ids) GROUP BY job_id"
        )
        return [int(row.n) for row in connection.execute(query, {"ids": ids})]


@contextmanager
def database_on_small_disk(trial: Trial) -> Iterator[Path]:
    """A block in which the database's files are on a small disk."""
    postgres, before, disk = trial.stack.postgres, trial.stack.postgres.data_dir, trial.stack.folder / "small"
    postgres.stop()
    used_mb = int(subprocess.run(["du", "-sm", before], check=True, capture_output=True).stdout.split()[0])
    with small_disk(trial, disk, used_mb * 5 // 4 + ROOM_MB):
        there = disk / "postgres"
        try:
            subprocess.run(["cp", "-a", before, there], check=True)
            postgres.data_dir = there
            postgres.start()
            yield disk
        finally:
            postgres.stop()
            postgres.data_dir = before
            if (there / "PG_VERSION").exists():
                shutil.rmtree(before)
                subprocess.run(["cp", "-a", there, before], check=True)
            postgres.start()


@fault(
    "F22.database",
    "the disk of the database is full",
    "the API says 503 meanwhile, never 500; no job is lost; it goes on alone when there is room",
    within_s=AGAIN_S + 10,
)
def database_full(trial: Trial) -> float:
    stack, probe = trial.stack, Probe(trial.work)
    with database_on_small_disk(trial) as disk:
        for host in stack.hosts:
            again(trial, host)
        at_work(trial, 8)
        filler = fill(disk)
        with probe.asking():
            # A database can need long until it wants more room, and may end itself for want of it.
            eventually(lambda: probe.answers[503] >= 3, lambda: f"it is full: {dict(probe.answers)}")
            time.sleep(trial.moment(4.0))
            filler.unlink()
            if not stack.postgres.alive():
                stack.postgres.start()  # by its supervisor
            began = time.monotonic()
            time.sleep(0.5)
        return recovered(trial, probe, began)


@fault(
    "F22.engine",
    "the disk of the engine is full",
    "jobs wait, workers say why; no job is lost; it goes on alone when there is room",
    within_s=TWICE_S + 30,  # they look at an engine that cannot serve every 10 s
    restarts=True,
)
def engine_full(trial: Trial) -> float:
    work, own, hosts = trial.work, trial.stack.own, trial.stack.hosts
    assert own is not None

    def refusals() -> int:
        return sum(host.logs().count("no space left on device") for host in hosts)

    before = refusals()
    filler = fill(own.data)
    try:
        work.submit(16, pause_s=0.2, reuse="never")  # more than there are sandboxes
        eventually(lambda: refusals() > before, "workers say why")
        time.sleep(trial.moment(4.0))
        assert not work.ended(), "all jobs had a sandbox"
        assert all(host.alive for host in hosts)
    finally:
        filler.unlink()
    began = time.monotonic()
    work.all_end()
    took = time.monotonic() - began
    work.judge()
    for host in hosts:
        again(trial, host)
    return took
