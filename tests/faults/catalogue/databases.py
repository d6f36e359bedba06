"""A database that dies, loses answers, is full of others, is migrated, or comes back from a backup."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from uuid import UUID

import httpx
import psycopg
from sqlalchemy import text

from tests.conftest import migrate
from tests.faults.catalogue.workers import AGAIN_S, at_work
from tests.faults.entries import Trial, fault
from tests.faults.host import LEASE_S
from tests.faults.work import TWICE_S, Work, own
from tests.harness import eventually


class Probe:
    """A client that submits jobs without a pause, and takes note of what it is answered."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.answers: Counter[int] = Counter()
        self.bodies: list[str] = []
        self.slowest_s = 0.0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A block in which it asks."""
        stop = threading.Event()

        def ask() -> None:
            with own(self.work.stack) as client:
                while not stop.is_set():
                    self._ask(client)
                    stop.wait(0.05)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)

    def _ask(self, client: httpx.Client) -> None:
        number, document = self.work.document()
        began = time.monotonic()
        with suppress(httpx.TransportError):
            answer = client.post("/v1/jobs", json=document)
            self.answers[answer.status_code] += 1
            if answer.status_code in {200, 202}:
                self.work.note(UUID(answer.json()["id"]), number)
            elif answer.status_code != 503 or "retry-after" not in answer.headers:
                self.bodies.append(answer.text)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def judge(self) -> None:
        """Every answer was a job, or 503 with Retry-After."""
        assert not self.bodies, f"{dict(self.answers)}: {self.bodies[:3]}"


def recovered(trial: Trial, probe: Probe, began: float) -> float:
    """Wait until all jobs have ended; judge them, what clients were told, and the workers. In seconds."""
    trial.work.all_end()
    took = time.monotonic() - began
    trial.work.judge()
    probe.judge()
    assert all(host.alive for host in trial.stack.hosts)
    return took


@fault(
    "F14.killed",
    "the database is killed and started again while jobs run",
    "results are written when it is back, none twice; the API says 503 meanwhile, never 500",
    within_s=AGAIN_S + 10,
)
def database_killed(trial: Trial) -> float:
    stack, probe = trial.stack, Probe(trial.work)
    at_work(trial, 8)
    with probe.asking():
        time.sleep(trial.moment(0.3))
        stack.crash_postgres()
        time.sleep(trial.moment(1.5))
        stack.postgres.start()
        began = time.monotonic()
        time.sleep(0.5)
    return recovered(trial, probe, began)


@fault(
    "F14.terminated",
    "all connections to the database are ended, three times",
    "nobody notices but the log",
    within_s=TWICE_S,
)
def connections_terminated(trial: Trial) -> float:
    stack, probe = trial.stack, Probe(trial.work)
    at_work(trial, 8)
    began = time.monotonic()
    with probe.asking():
        for _ in range(3):
            time.sleep(trial.moment(0.3))
            stack.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = 'retort' AND pid <> pg_backend_pid()"
            )
    return recovered(trial, probe, began)


def lose_an_answer(trial: Trial, *, passed_on: bool) -> float:
    """The connection dies while a result is written, which is stored already or never came."""
    work, stack = trial.work, trial.stack
    number, document = work.document(pause_s=trial.moment(0.2))
    # What the program prints as a word is found nowhere but in the statement that writes its result.
    word = f"word{number}x{trial.seed}"
    document["code"] += f"print('word' + '{number}x{trial.seed}', file=sys.stderr)\n"
    with ExitStack() as losing:
        needles = [
            losing.enter_context(host.database.losing(word.encode(), passed_on=passed_on))
            for host in stack.hosts
        ]
        answer = stack.client.post("/v1/jobs", json=document)
        work.note(UUID(answer.json()["id"]), number)
        eventually(lambda: any(each.found.is_set() for each in needles), "the result is written")
        began = time.monotonic()
        work.all_end()
    took = time.monotonic() - began
    work.judge(most_attempts=1)
    assert all(host.alive for host in stack.hosts)
    return took


@fault(
    "F15.stored",
    "a result is stored, and the database's answer is lost",
    "writing it again changes nothing: one result, no second run",
    within_s=TWICE_S,
)
def answer_lost(trial: Trial) -> float:
    return lose_an_answer(trial, passed_on=True)


@fault(
    "F15.lost",
    "the connection dies before a result reaches the database",
    "it is written again: one result, no second run",
    within_s=TWICE_S,
)
def result_lost(trial: Trial) -> float:
    return lose_an_answer(trial, passed_on=False)


@fault(
    "F15.claimed",
    "a claim is stored, and the database's answer is lost",
    "who claimed goes on with another job; that one is taken again within a lease and 5 s",
    within_s=AGAIN_S,
)
def claim_lost(trial: Trial) -> float:
    """The worker knows nothing of its claim, and runs something long, whose lease it keeps."""
    work, stack = trial.work, trial.stack
    for _ in range(5):
        took, job_id = _lose_a_claim(trial)
        work.all_end()
        work.judge()
        if [each.failure for each in stack.table.attempts(job_id)] == ["worker_lost", None]:
            return took
        # The connection was gone before the server had read all of the claim, so the next try was the first.
    raise AssertionError("no claim was lost")


def _lose_a_claim(trial: Trial) -> tuple[float, UUID]:
    """How long it took until the job ended, and which it is."""
    work, stack = trial.work, trial.stack
    with stack.api_broker.refusing():
        (lost,) = work.submit(1, pause_s=0.1)
        work.submit(2, pause_s=trial.chance.uniform(3, 4) * LEASE_S)
    with ExitStack() as losing:
        needles = [
            losing.enter_context(host.database.losing(lost.bytes, passed_on=True)) for host in stack.hosts
        ]
        # A bell that rang just now: its job is claimed by a single statement.
        stack.table.set(lost, rung_at=text("now() + interval '2 seconds'"))
        stack.broker.ring(lost)
        eventually(lambda: any(each.found.is_set() for each in needles), "it is claimed")
        stack.table.set(lost, rung_at=text("now()"))
    began = time.monotonic()
    eventually(lambda: stack.table.get(lost).state == "finished", lambda: f"it ends: {stack.table.get(lost)}")
    return time.monotonic() - began, lost


@fault(
    "F16",
    "the database takes no more connections, then its jobs are locked",
    "503 with Retry-After; leases hold; everything goes on afterwards",
    within_s=AGAIN_S,
)
def no_connections(trial: Trial) -> float:
    stack, probe = trial.stack, Probe(trial.work)
    at_work(trial, 4, pause_s=LEASE_S)
    held: list[psycopg.Connection] = []
    url = f"host={stack.folder / 'run'} user=retort dbname=retort"
    with probe.asking():
        try:
            _hold_all(url, held)
            # Those who have none now get none.
            with suppress(psycopg.Error):
                held[0].execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ''"
                    " AND backend_type = 'client backend' AND pid <> ALL(%s)",
                    [[each.info.backend_pid for each in held]],
                )
            _hold_all(url, held)
            time.sleep(trial.moment(1.0))
        finally:
            for connection in held:
                connection.close()
        with stack.table.engine.execution_options(isolation_level="READ COMMITTED").begin() as locking:
            locking.exec_driver_sql("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            time.sleep(trial.moment(2.0))
        began = time.monotonic()
    return recovered(trial, probe, began)


def _hold_all(url: str, held: "list[psycopg.Connection]") -> None:
    """Connect until no more are taken."""
    with suppress(psycopg.OperationalError):
        while len(held) < 200:
            held.append(psycopg.connect(url, connect_timeout=5))
    assert held


@fault(
    "F33",
    "the newest migration is taken back and made again while jobs run",
    "no job is lost; the database answers within a second",
    within_s=AGAIN_S,
)
def migrated(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    at_work(trial, 8, pause_s=1.0)
    slowest, stop = [0.0], threading.Event()

    def ask() -> None:
        with own(stack) as client:
            while not stop.wait(0.02):
                began = time.monotonic()
                answer = client.get("/v1/jobs", params={"limit": "1"})
                slowest[0] = max(slowest[0], time.monotonic() - began)
                assert answer.status_code in {200, 500, 503}, answer.text

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        began = time.monotonic()
        migrate(stack.postgres.url, "-1")
        migrate(stack.postgres.url)
        trial.measure("migration back and forth", time.monotonic() - began)
        stop.set()
        asked.result(60)
    trial.measure("slowest answer while it is migrated", slowest[0])
    began = time.monotonic()
    work.submit(3)
    work.all_end()
    took = time.monotonic() - began
    work.judge()
    return took


@fault(
    "F34",
    "the database comes back from a backup that was made while jobs ran",
    "what ran then runs again; every job that it knows ends, with one result",
    within_s=AGAIN_S + 10,
)
def restored(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    at_work(trial, 8)
    copy = stack.folder / "backup"
    stack.crash_postgres()
    shutil.rmtree(copy, ignore_errors=True)
    stack.postgres.stop()  # what the crash left of it
    shutil.copytree(stack.postgres.data_dir, copy)
    stack.postgres.start()
    later = Work(stack)
    time.sleep(trial.moment(1.0))
    with suppress(AssertionError, httpx.HTTPError):
        later.submit(2)
    stack.crash_postgres()
    shutil.rmtree(stack.postgres.data_dir)
    shutil.move(copy, stack.postgres.data_dir)
    stack.postgres.start()
    began = time.monotonic()
    work.all_end()
    took = time.monotonic() - began
    # What was told before may be told again, as another message: the first is not in the backup.
    work.judge(hooks=False)
    known = later.states()
    assert not known, "jobs that are newer than the backup are gone, and so are their numbers"
    return took
