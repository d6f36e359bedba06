"""Tasks whose worker dies around a model's answer, and models that are away."""

import signal
import time
from contextlib import suppress
from uuid import UUID

from tests.faults.catalogue.workers import AGAIN_S
from tests.faults.entries import Trial, fault
from tests.faults.stack import Stack
from tests.faults.work import TWICE_S
from tests.harness import eventually
from tests.tasks import calls_of
from worker.sandbox.crew import STARTERS, UNDERTAKERS

#: Times that a model may be asked by workers that die over it: as often as a job may be claimed.
MOST_CALLS = 3

#: Threads of a worker that are made when they are first needed, and may not have been yet.
LATER = STARTERS + UNDERTAKERS


def submit(stack: Stack, count: int) -> list[UUID]:
    """Tasks that the scripted model solves at once."""
    document = {"task": "[scripted:right] greet", "model": "gpt-4.1", "reuse": "caller"}
    made = []
    for _ in range(count):
        answer = stack.client.post("/v1/jobs", json=document)
        assert answer.status_code == 202, answer.text
        made.append(UUID(answer.json()["id"]))
    return made


def all_end(stack: Stack, ids: list[UUID], within_s: float = 90) -> None:
    """Wait until all have ended."""

    def ended() -> bool:
        query = "SELECT count(*) FROM jobs WHERE id = ANY(%s) AND state IN ('queued', 'generating', 'running')"
        return bool(stack.sql(query, ids)[0][0] == 0)

    eventually(lambda: stack.patiently(ended), "all tasks end", within_s)


def judge(stack: Stack, ids: list[UUID]) -> None:
    """Each has one right result, and what was paid for is in the books."""
    for job_id in ids:
        row, attempts = stack.table.get(job_id), stack.table.attempts(job_id)
        said = f"{row.state} {row.verdict} {row.reason}, {[(a.verdict, a.failure) for a in attempts]}"
        assert (row.state, row.verdict) == ("finished", "ok"), said
        assert [bytes(each.stdout) for each in attempts if each.verdict] == [
            b"hello from the scripted model\n"
        ], said
        calls = calls_of(stack.table, job_id)
        answered = [each for each in calls if each.answer]
        assert 1 <= len(answered) <= MOST_CALLS, f"{len(answered)} answers were paid for; {said}"


def die_at(trial: Trial, boundary: str) -> float:
    """A worker dies at a boundary of a generating step."""
    stack, victim = trial.stack, trial.victim
    victim.arm(boundary)
    worker = victim.worker
    assert worker is not None
    ids: list[UUID] = []
    while worker.process.poll() is None:
        assert len(ids) < 40, f"{boundary} is never passed"
        ids += submit(stack, 2)
        with suppress(AssertionError):
            eventually(lambda: worker.process.poll() is not None, "it dies", 0.5)
    began = time.monotonic()
    assert worker.process.returncode == -signal.SIGKILL
    victim.start(wait=False)
    all_end(stack, ids)
    took = time.monotonic() - began
    judge(stack, ids)
    if boundary == "stored":  # it is not asked for again
        assert all(len(calls_of(stack.table, each)) == 1 for each in ids)
    trial.work.told(ids)
    return took


@fault("F03.asking", "a worker dies before it asks a model", "the task ends right", within_s=AGAIN_S + TWICE_S)
def asking(trial: Trial) -> float:
    return die_at(trial, "asking")


@fault(
    "F03.answered",
    "a worker dies with a model's answer, before it is stored",
    "the task ends right; the model is asked at most three times",
    within_s=AGAIN_S + TWICE_S,
)
def answered(trial: Trial) -> float:
    return die_at(trial, "answered")


@fault(
    "F03.stored",
    "a worker dies after a model's answer was stored",
    "the task ends right; the model is not asked again",
    within_s=AGAIN_S + TWICE_S,
)
def stored(trial: Trial) -> float:
    return die_at(trial, "stored")


@fault(
    "F25",
    "the model is away for a while",
    "tasks wait and end right when it is back; code is not held up; no thread is left",
    within_s=60,
)
def model_away(trial: Trial) -> float:
    stack, work = trial.stack, trial.work
    # Threads are made when they are first needed.
    all_end(stack, submit(stack, 12))
    work.submit_at_once(12, pause_s=0.3)
    work.all_end()
    before = threads(stack)
    with stack.model.refusing():
        ids = submit(stack, 6)
        time.sleep(trial.outage_s + trial.moment(1.0))
        work.submit(4)
        work.all_end()
        assert stack.sql("SELECT count(*) FROM jobs WHERE id = ANY(%s) AND state = 'finished'", ids)[0][0] == 0
    began = time.monotonic()
    all_end(stack, ids)
    took = time.monotonic() - began
    judge(stack, ids)
    work.judge(most_attempts=1)
    most = before + LATER * len(stack.hosts)
    eventually(lambda: threads(stack) <= most, lambda: f"{threads(stack)} threads, {before} before", 30)
    return took


def threads(stack: Stack) -> int:
    """Threads of all workers."""
    found = 0
    for host in stack.hosts:
        assert host.worker is not None
        with open(f"/proc/{host.worker.process.pid}/status", encoding="ascii") as status:
            found += next(int(line.split()[1]) for line in status if line.startswith("Threads:"))
    return found
