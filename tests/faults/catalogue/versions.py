"""Processes of two versions on one database and one broker, as while a service is upgraded."""

import time

from tests.faults.catalogue import tasks
from tests.faults.catalogue.workers import AGAIN_S, at_work
from tests.faults.earlier import NoEarlier
from tests.faults.entries import NotHere, Trial, fault
from tests.faults.work import TWICE_S


@fault(
    "F32.versions",
    "API and a worker are of an earlier version; the worker ends or is killed, both are replaced",
    "both versions take jobs; none is lost, what the earlier one began the present one ends",
    within_s=AGAIN_S + TWICE_S,
)
def two_versions(trial: Trial) -> float:
    work, stack, victim = trial.work, trial.stack, trial.victim
    try:
        earlier = stack.earlier
    except NoEarlier as reason:
        raise NotHere(str(reason)) from reason
    assert stack.server is not None
    stack.server.stop()
    stack.serve(earlier)
    victim.stop()
    victim.start(source=earlier)

    # Each takes what comes; both have had something once all places are taken.
    work.submit(8, pause_s=1)
    work.running(8)
    assert all(work.held_by(host.instance) for host in stack.hosts), "both versions take jobs"
    asked = tasks.submit(stack, 4)
    work.all_end()

    at_work(trial)
    if trial.chance.random() < 0.5:
        victim.kill()
    else:
        victim.stop()
    began = time.monotonic()
    victim.start(wait=False)
    stack.server.stop()
    stack.serve()
    work.submit(2)
    work.all_end()
    tasks.all_end(stack, asked)
    took = time.monotonic() - began
    tasks.judge(stack, asked)
    work.judge()
    return took
