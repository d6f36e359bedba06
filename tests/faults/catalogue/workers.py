"""Workers that are killed, stopped, poisoned, drained, or whose clock goes wrong."""

import os
import signal
import time
from contextlib import suppress
from uuid import UUID

from tests.faults.entries import Trial, fault
from tests.faults.host import JOBS, LEASE_S, Host
from tests.faults.stack import gone
from tests.faults.work import TWICE_S, Work
from tests.harness import ROOT, eventually, ready
from tests.hostile.invariants import guests_of, processes_by_container
from worker.faults import BOUNDARIES

#: From a worker's death until its jobs run again: the lease, and 5 s.
AGAIN_S = LEASE_S + 5

#: How long a program of these rows takes, in seconds.
RUN_S = 0.6


def at_work(trial: Trial, count: int = 6, pause_s: float = RUN_S) -> None:
    """Jobs under way, some at the victim, which has a moment more to live."""
    work = trial.work

    def busy_there() -> bool:
        if work.ended():  # the others were quicker
            work.submit_at_once(count, pause_s=pause_s)
        return bool(work.held_by(trial.victim.instance))

    eventually(busy_there, "the victim has a job")
    time.sleep(trial.moment(RUN_S / 2))


def taken_again(work: Work, lost: dict[UUID, UUID]) -> float:
    """Wait until lost jobs are under way elsewhere, or ended; how long that took."""
    began = time.monotonic()

    def look() -> bool:
        query = "SELECT count(*) FROM jobs WHERE id = ANY(%s) AND (state = 'queued' OR lease_token = ANY(%s))"
        return not lost or work.stack.sql(query, list(lost), list(lost.values()))[0][0] == 0

    eventually(look, "lost jobs are taken again", 60)
    return time.monotonic() - began


def busy(host: Host) -> list[str]:
    """Its containers in which a program runs."""
    inside = processes_by_container()
    return [each for each in host.containers() if guests_of(inside.get(each, []))]


def running_at(host: Host) -> list[str]:
    """Wait until programs run at a worker: their containers."""
    found: list[str] = []

    def look() -> bool:
        found.extend(busy(host))
        return bool(found)

    eventually(look, "a program runs at the victim")
    return found


@fault(
    "F01",
    "the process of a running program's sandbox is killed",
    "run once more at once, one result",
    within_s=TWICE_S + 5,
)
def kill_runner(trial: Trial) -> float:
    trial.work.submit_at_once(3, pause_s=1.0)
    found = running_at(trial.victim)
    began = time.monotonic()
    with suppress(ProcessLookupError):
        os.kill(int(trial.stack.docker.api.inspect_container(found[0])["State"]["Pid"]), signal.SIGKILL)
    trial.work.all_end()
    took = time.monotonic() - began
    trial.work.judge()
    return took


@fault(
    "F02",
    "a worker is killed while it runs jobs",
    "they run again within a lease and 5 s; its containers are gone within 60 s",
    within_s=AGAIN_S,
)
def kill_worker(trial: Trial) -> float:
    at_work(trial)
    orphans = trial.victim.containers()
    trial.victim.kill()
    began = time.monotonic()
    lost = trial.work.held_by(trial.victim.instance)
    trial.victim.start(wait=False)
    took = taken_again(trial.work, lost)
    if lost:
        trial.measure("worker killed: jobs taken again", took)
    trial.work.all_end()
    gone(trial.stack, orphans)
    trial.measure("worker killed: its containers gone", time.monotonic() - began)
    trial.work.judge()
    return took


def die_at(boundary: str, trial: Trial) -> float:
    """A worker kills itself at a boundary."""
    work, victim = trial.work, trial.victim
    victim.arm(boundary)
    worker = victim.worker
    assert worker is not None
    more = f"open('a{trial.seed}', 'w').write('x')"
    reuse = "never" if boundary == "container_created" else "caller"
    tries = 0
    while worker.process.poll() is None:
        tries += 1
        assert tries < 20, f"{boundary} is never passed"
        work.submit(2, pause_s=trial.moment(0.3), more=more, reuse=reuse)
        with suppress(AssertionError):
            eventually(lambda: worker.process.poll() is not None, "it dies", 1.0)
    began = time.monotonic()
    assert worker.process.returncode == -signal.SIGKILL, worker.log.read_text()
    victim.start(wait=False)
    work.all_end()
    took = time.monotonic() - began
    work.judge()
    stored = trial.stack.sql(
        "SELECT job_id, count(*) FROM artifacts WHERE job_id = ANY(%s) GROUP BY job_id", list(work.expected)
    )
    assert {row.job_id: row.count for row in stored} == dict.fromkeys(work.expected, 1), stored
    return took


def _boundaries() -> None:
    of_code = [
        each
        for each in BOUNDARIES
        if not each.startswith("hook_") and each not in {"asking", "answered", "stored"}
    ]
    for boundary in of_code:

        def inject(trial: Trial, boundary: str = boundary) -> float:
            return die_at(boundary, trial)

        fault(
            f"F03.{boundary}",
            f"a worker dies at the boundary `{boundary}`",
            "every job ends, with one result and one set of artifacts",
            within_s=AGAIN_S + TWICE_S,
        )(inject)


_boundaries()


@fault(
    "F11",
    "a worker stands still past its lease, then goes on",
    "another does its jobs; what it writes later changes nothing; what it runs is killed",
    within_s=AGAIN_S,
)
def stop_and_continue(trial: Trial) -> float:
    work, victim = trial.work, trial.victim
    longer = trial.chance.random() < 0.5  # than the worker stands still
    at_work(trial, 4, pause_s=4 * LEASE_S if longer else 0.3)
    victim.signal(signal.SIGSTOP)
    try:
        lost = work.held_by(victim.instance)
        took = taken_again(work, lost)
        if not longer:
            work.all_end()
        ran = set(busy(victim))
    finally:
        victim.signal(signal.SIGCONT)
    gone(trial.stack, ran)
    work.all_end()
    before = {each: trial.stack.table.get(each) for each in work.expected}
    time.sleep(0.3)
    work.judge()
    assert before == {each: trial.stack.table.get(each) for each in work.expected}, "a final job changed"
    return took


@fault(
    "F13",
    "a job kills each worker that starts it",
    "given up after three claims; other jobs go on",
    within_s=3 * AGAIN_S + 30,
)
def poison(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    with trial.supervised():
        (job_id,) = Work(stack).submit(1, priority="batch", pause_s=0.5)
        for host in stack.hosts:
            host.arm(trial.chance.choice(["output_read", "ending"]), job_id)
        began = time.monotonic()
        work.submit(4, pause_s=0.1)

        def dead() -> bool:
            return stack.table.get(job_id).state in {"broken", "finished"}

        eventually(dead, lambda: f"it is given up: {stack.table.get(job_id)}", 120)
        took = time.monotonic() - began
        row = stack.table.get(job_id)
        assert (row.state, row.claims, row.verdict) == ("broken", 3, None), row
        assert "lost 3 times" in row.reason
        failures = [each.failure for each in stack.table.attempts(job_id)]
        assert failures == ["worker_lost"] * 3, failures
        work.submit(2)
        work.all_end()
        for host in stack.hosts:
            host.disarm()
    stack.heal()
    work.judge()
    work.told([job_id])
    return took


@fault(
    "F27",
    "the clock of a worker is ten minutes wrong",
    "no lease ends early or late: only the database's clock counts",
    within_s=AGAIN_S,
)
def skewed(trial: Trial) -> float:
    """The worker with the wrong clock keeps its leases, and takes over those of another that was killed."""
    work, stack, victim = trial.work, trial.stack, trial.victim
    other = next(host for host in stack.hosts if host is not victim)
    other.kill()
    skew = trial.chance.choice([-600, 600])
    path = f"{ROOT / 'tests' / 'faults' / 'skew'}:{ROOT}"
    worker = other.start(environment={"PYTHONPATH": path, "TEST_SKEW_S": str(skew)})
    try:
        work.submit(1, pause_s=LEASE_S + 1.5)
        at_work(trial, 4, pause_s=1.0)
        victim.kill()
        began = time.monotonic()
        lost = work.held_by(victim.instance)
        took = taken_again(work, lost)
        victim.start(wait=False)
        work.all_end()
        work.judge()
        kept = [each for each in work.expected if each not in lost]
        # What the worker with the wrong clock held all the time was never taken from it.
        for job_id in kept:
            assert stack.table.get(job_id).claims == 1, f"{job_id} was taken from its worker; skew {skew}"
        assert worker.process.poll() is None
        trial.measure("clock wrong: jobs taken again", time.monotonic() - began)
    finally:
        other.kill()
        other.start()
        if not victim.alive:
            victim.start()
        assert victim.worker is not None
        ready(stack.table, victim.worker)
    return took


@fault(
    "F28",
    "ten containers of a worker that crashed are left",
    "gone within 60 s; never another instance's",
    within_s=60,
)
def orphans(trial: Trial) -> float:
    stack, victim = trial.stack, trial.victim
    image = stack.docker.api.inspect_container(sorted(victim.containers())[0])["Config"]["Image"]
    victim.kill()
    made = set()
    for number in range(10):
        container = stack.docker.api.create_container(
            image,
            ["1000"],
            entrypoint=["sleep"],
            labels={"retort.instance": victim.instance, "retort.worker": "former"},
        )["Id"]
        made.add(container)
        if number < trial.chance.randint(0, 4):
            stack.docker.api.start(container)
    victim.start(wait=False)
    took = gone(stack, made)
    trial.measure("ten orphans: gone", took)
    trial.work.submit(2)
    trial.work.all_end()
    trial.work.judge()
    assert victim.worker is not None
    ready(stack.table, victim.worker)
    return took


# --- leaving ------------------------------------------------------------------------------------------


@fault(
    "F31.once",
    "a worker with jobs gets SIGTERM",
    "it ends what it began and takes nothing more: no job lost, none failed",
    within_s=30,
)
def drain(trial: Trial) -> float:
    work, victim = trial.work, trial.victim
    at_work(trial, 8)
    victim.signal(signal.SIGTERM)
    began = time.monotonic()
    work.submit(2)
    worker = victim.worker
    assert worker is not None
    assert worker.process.wait(90) == 0, victim.logs()
    took = time.monotonic() - began
    assert not victim.containers(), "a worker that was told to stop leaves containers"
    work.all_end()
    work.judge(most_attempts=1)
    victim.start()
    trial.measure("drain: ended", took)
    return took


def leave_at_once(trial: Trial, *signals: signal.Signals) -> float:
    """A worker is told to end without waiting for its jobs."""
    work, victim = trial.work, trial.victim
    at_work(trial, JOBS, pause_s=4 * LEASE_S)  # not more than the other one has room for
    lost = work.held_by(victim.instance)
    for number in signals:
        victim.signal(number)
        time.sleep(0.3)
    began = time.monotonic()
    worker = victim.worker
    assert worker is not None
    eventually(lambda: worker.process.poll() is not None, lambda: f"it ends: {victim.logs()}", 30)
    trial.measure("leaving at once: ended", time.monotonic() - began)
    took = taken_again(work, lost)
    assert not victim.containers(), "a worker that left at once left containers"
    victim.start(wait=False)
    work.all_end(120)
    work.judge()
    return took


@fault(
    "F31.twice",
    "a worker that ends its jobs gets SIGTERM again",
    "it ends at once; its jobs run elsewhere within a lease and 5 s",
    within_s=AGAIN_S,
)
def leave_twice(trial: Trial) -> float:
    return leave_at_once(trial, signal.SIGTERM, signal.SIGTERM)


@fault(
    "F31.quit",
    "a worker with jobs gets SIGQUIT",
    "it ends at once; its jobs run elsewhere within a lease and 5 s",
    within_s=AGAIN_S,
)
def leave_now(trial: Trial) -> float:
    return leave_at_once(trial, signal.SIGQUIT)
