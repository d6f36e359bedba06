"""An engine that ends, breaks off, refuses, hangs or lacks an image; containers that vanish or freeze.

The machine's own engine is never restarted: where that is what happens, a stack has an engine of its own. Else
a proxy before its socket does to a worker what an engine in trouble would.
"""

import signal
import time
from contextlib import ExitStack, suppress
from uuid import UUID

import docker.errors

from tests.faults.catalogue.workers import busy, running_at
from tests.faults.entries import Trial, fault
from tests.faults.host import Host
from tests.faults.proxy import Rule
from tests.faults.stack import Stack
from tests.faults.work import TWICE_S
from tests.harness import eventually, ready
from tests.integration.running import freeze

CREATE = r"^POST \S*/containers/create"
START = r"^POST \S*/containers/[0-9a-f]+/start"
REMOVE = r"^DELETE \S*/containers/"


def programs(trial: Trial, count: int = 3, pause_s: float = 1.0, **fields: object) -> list[str]:
    """Jobs under way, one or more at the victim; its containers that are busy."""
    trial.work.submit_at_once(count, pause_s=pause_s)
    found = running_at(trial.victim)
    time.sleep(trial.moment(0.2))
    return found


@fault(
    "F17",
    "the engine breaks off all streams, and answers again at once (as a restart that spares containers)",
    "runs that are cut off are never taken for good; they run once more",
    within_s=TWICE_S + 5,
)
def streams_cut(trial: Trial) -> float:
    work = trial.work
    programs(trial)
    trial.victim.engine.cut()
    began = time.monotonic()
    work.all_end()
    took = time.monotonic() - began
    work.judge()
    assert trial.victim.alive
    return took


@fault(
    "F18",
    "all containers of a worker die while the engine is away for a moment",
    "what ran runs once more; the worker goes on",
    within_s=TWICE_S + 10,
)
def engine_restarted(trial: Trial) -> float:
    work, stack, victim = trial.work, trial.stack, trial.victim
    programs(trial)
    with victim.engine.refusing():
        for container in victim.containers():
            with suppress(docker.errors.APIError):
                stack.docker.api.kill(container)
        time.sleep(trial.moment(1.5))
    began = time.monotonic()
    work.all_end()
    took = time.monotonic() - began
    work.judge()
    again(trial, victim)
    return took


def _restarted(trial: Trial, *, spares: bool) -> float:
    """End the engine in some way, and start it again."""
    work, own = trial.work, trial.stack.own
    assert own is not None
    if own.spares is not spares:
        own.spares = spares
        own.end(signal.SIGTERM)
        own.start()
    for host in trial.stack.hosts:
        again(trial, host)
    work.submit_at_once(4, pause_s=1.5)  # at either worker, or both
    work.running(2)
    time.sleep(trial.moment(0.5))
    own.end(trial.chance.choice((signal.SIGKILL, signal.SIGTERM)))
    time.sleep(trial.moment(2))
    own.start()
    began = time.monotonic()
    work.all_end()
    took = time.monotonic() - began
    work.judge()
    for host in trial.stack.hosts:
        again(trial, host)
    return took


@fault(
    "F17.restart",
    "the engine itself ends, is started again, and finds all containers alive (live-restore)",
    "runs that are cut off are never taken for good; they run once more; workers go on",
    within_s=TWICE_S + 10,
    restarts=True,
)
def spared(trial: Trial) -> float:
    return _restarted(trial, spares=True)


@fault(
    "F18.restart",
    "the engine itself ends with all its containers, and is started again",
    "what ran runs once more; workers go on",
    within_s=TWICE_S + 10,
    restarts=True,
)
def not_spared(trial: Trial) -> float:
    return _restarted(trial, spares=False)


def again(trial: Trial, host: Host) -> None:
    """Wait until a worker has fresh cells."""
    assert host.worker is not None
    assert host.alive, host.logs()
    ready(trial.stack.table, host.worker)


@fault(
    "F19",
    "the containers of running programs are removed by hand",
    "run once more at once, one result",
    within_s=TWICE_S + 5,
)
def removed_by_hand(trial: Trial) -> float:
    found = programs(trial)
    began = time.monotonic()
    for container in found:
        with suppress(docker.errors.APIError):
            trial.stack.docker.api.remove_container(container, force=True)
    trial.work.all_end()
    took = time.monotonic() - began
    trial.work.judge()
    return took


@fault(
    "F20",
    "the image is missing",
    "jobs wait, the worker says why and is not ready, the engine is not stormed",
    within_s=30,  # they look for images every 10 s
)
def image_missing(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    rules = [
        Rule(CREATE, 404, "No such image: gone"),
        Rule(r"^GET \S*/images/\S+/json", 404, "No such image: gone"),
    ]
    hosts = stack.hosts
    for host in hosts:  # so that nobody has a cell left
        host.kill()
    work.submit(3)
    with ExitStack() as ruled:
        for host in hosts:
            ruled.enter_context(host.engine.ruled(*rules))
        for host in hosts:
            host.start(wait=False)
        eventually(lambda: all(_says(trial, host) for host in hosts), "the workers say why", 60)
        before = sum(sum(host.engine.requests.values()) for host in hosts)
        began = time.monotonic()
        time.sleep(2.0)
        asked = sum(sum(host.engine.requests.values()) for host in hosts) - before
        assert asked <= 40 * len(hosts), f"{asked} requests in {time.monotonic() - began:.1f} s"
        assert set(work.states().values()) == {"queued"}
        answer = stack.client.get("/readyz")
        assert answer.status_code == 503, answer.text
        assert "image" in answer.text.lower(), answer.text
    began = time.monotonic()
    work.all_end()
    took = time.monotonic() - began
    work.judge(most_attempts=1)
    eventually(lambda: _taken(stack), "new jobs are taken again")
    return took


def _taken(stack: Stack) -> bool:
    """Whether the API knows that there is an image again: it looks now and then."""
    answer = stack.client.get("/readyz")
    return answer.status_code == 200 and "python" not in answer.json()["missing_languages"]


def _says(trial: Trial, host: Host) -> bool:
    assert host.alive, host.logs()
    row = trial.stack.table.worker(host.instance)
    return row is not None and not row.ready and "image" in (row.why_not or "").lower()


def misbehaving(trial: Trial, *rules: Rule) -> float:
    """The engine answers like this for a while, as jobs need fresh cells; to all workers."""
    work, stack = trial.work, trial.stack
    began = time.monotonic()
    victim = trial.victim
    with victim.engine.ruled(*rules):
        for _ in range(3):
            work.submit(2, pause_s=0.1, reuse="never")
            time.sleep(trial.moment(0.5))
        eventually(lambda: sum(victim.engine.requests.values()) > 0 or work.ended(), "the engine was asked")
    work.all_end(120)
    took = time.monotonic() - began
    work.judge()
    assert all(host.alive for host in stack.hosts)
    return took


@fault("F21.500", "the engine answers 500 to some calls", "runs end right, the worker goes on", within_s=30)
def engine_500(trial: Trial) -> float:
    path = trial.chance.choice([CREATE, START, REMOVE])
    return misbehaving(trial, Rule(path, 500, times=trial.chance.randint(1, 4)))


@fault(
    "F21.409",
    "the engine answers 409 to some calls: a name is taken, a removal is under way",
    "runs end right, what was not removed is removed later",
    within_s=30,
)
def engine_409(trial: Trial) -> float:
    rules = [
        Rule(CREATE, 409, "Conflict. The container name is already in use", times=2),
        Rule(REMOVE, 409, "Conflict. You cannot remove it now", times=2),
    ]
    return misbehaving(trial, *rules)


@fault("F21.slow", "the engine takes seconds for each call", "runs end right", within_s=60)
def engine_slow(trial: Trial) -> float:
    slow_s = trial.chance.uniform(0.5, 3.0)
    return misbehaving(trial, Rule(".", wait_s=slow_s, times=30))


@fault(
    "F21.hangs",
    "the engine does not answer a worker for longer than a lease",
    "jobs run elsewhere, or later; the worker goes on when it answers",
    within_s=60,
)
def engine_hangs(trial: Trial) -> float:
    work, victim = trial.work, trial.victim
    began = time.monotonic()
    with victim.engine.hanging():
        work.submit_at_once(6, pause_s=0.1)
        time.sleep(4 + trial.moment(2.0))
    work.all_end()
    took = time.monotonic() - began
    work.judge()
    assert victim.alive
    return took


@fault(
    "F29",
    "the container of a running program is frozen, so that nothing more is heard of it",
    "killed at its time limit; verdict `timeout`",
    within_s=TWICE_S + 10,
)
def frozen(trial: Trial) -> float:
    stack = trial.stack
    limit_s = trial.chance.randint(4, 5)
    # Shorter than its limit, so that it would end well if nothing froze it; long enough to be found in time.
    _, document = trial.work.document(pause_s=3.0, limits={"timeout_s": limit_s}, reuse="never")
    job_id = stack.client.post("/v1/jobs", json=document).json()["id"]
    trial.work.begun([UUID(job_id)])
    found: list[tuple[Host, str]] = []

    def look() -> bool:  # a program that ended just before may be on its way out
        found[:] = [(host, each) for host in stack.hosts for each in busy(host)]
        return len(found) == 1

    eventually(look, "its program runs, and no other")
    freeze(stack.docker, found[0][1])
    began = time.monotonic()
    eventually(lambda: stack.table.get(job_id).state == "finished", "it ends")
    took = time.monotonic() - began
    row, attempts = stack.table.get(job_id), stack.table.attempts(job_id)
    assert (row.verdict, len(attempts)) == ("timeout", 1), row
    eventually(lambda: found[0][1] not in found[0][0].containers(), "its container is removed")
    trial.work.submit(2)
    trial.work.all_end()
    trial.work.judge()
    return took
