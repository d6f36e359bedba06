"""A broker that dies, forgets, falls silent or repeats itself; an API that dies beside it."""

import threading
import time
from contextlib import ExitStack
from uuid import UUID, uuid4

import httpx

from domain.bell import ADVANCE, SANDBOX_QUEUE
from tests.faults.entries import Trial, fault
from tests.faults.host import DEAF_S, LEASE_S
from tests.faults.work import own
from tests.harness import eventually

#: From the moment that a message is lost until the sweeper rings again: its patience, its round, a start.
RUNG_S = 5 + 1 + 2


@fault(
    "F04",
    "the API is killed after it stored a job, before it rang for it",
    "the job runs: the sweeper rings for what waits for 5 s",
    within_s=RUNG_S + 2,
)
def killed_before_ringing(trial: Trial) -> float:
    stack, work = trial.stack, trial.work
    key = str(uuid4())
    number, document = work.document()
    with stack.api_broker.hanging():
        sent = threading.Thread(target=_send, args=(stack.client, document, key), daemon=True)
        sent.start()
        eventually(lambda: _newest(trial) is not None, "the job is stored")
        time.sleep(trial.moment(0.1))
        stack.kill_api()
    began = time.monotonic()
    job_id = _newest(trial)
    assert job_id is not None
    work.note(job_id, number)
    sent.join(30)
    stack.serve()
    work.all_end()
    took = time.monotonic() - began
    # Who asks again with the same key gets the same job.
    again = stack.client.post("/v1/jobs", json=document, headers={"Idempotency-Key": key})
    assert again.status_code in {200, 202}, again.text
    assert again.json()["id"] == str(job_id)
    work.judge(most_attempts=1)
    return took


@fault(
    "F05",
    "the API is killed after it rang for a job, before it answered",
    "who asks again with the same Idempotency-Key gets the same job",
    within_s=RUNG_S,
)
def killed_before_answering(trial: Trial) -> float:
    stack, work = trial.stack, trial.work
    key = str(uuid4())
    number, document = work.document(pause_s=0.3)
    sent = threading.Thread(target=_send, args=(stack.client, document, key, "wait=20"), daemon=True)
    sent.start()
    eventually(lambda: _newest(trial) is not None, "the job is stored")
    time.sleep(trial.moment(0.25))
    stack.kill_api()
    began = time.monotonic()
    job_id = _newest(trial)
    assert job_id is not None
    work.note(job_id, number)
    sent.join(30)
    stack.serve()
    again = stack.client.post("/v1/jobs", json=document, headers={"Idempotency-Key": key})
    assert again.status_code in {200, 202}, again.text
    assert again.json()["id"] == str(job_id)
    work.all_end()
    took = time.monotonic() - began
    work.judge(most_attempts=1)
    return took


def _send(client: httpx.Client, document: dict[str, object], key: str, prefer: str = "") -> None:
    headers = {"Idempotency-Key": key} | ({"Prefer": prefer} if prefer else {})
    try:
        client.post("/v1/jobs", json=document, headers=headers)
    except httpx.HTTPError:
        return  # its API was killed


def _newest(trial: Trial) -> UUID | None:
    """The job that was stored in this repetition and is not known yet."""
    known = list(trial.work.expected)
    mark = f"%print({trial.stack.last})%"
    rows = trial.stack.sql("SELECT id FROM jobs WHERE code LIKE %s AND id <> ALL(%s)", mark, known)
    return rows[0].id if rows else None


@fault(
    "F06",
    "the broker is killed and started again",
    "what runs ends, what waits survives; workers go on within 30 s",
    within_s=30,
)
def broker_restart(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    work.submit_at_once(20, pause_s=0.2)
    time.sleep(trial.moment(0.5))
    stack.crash_valkey()
    time.sleep(trial.moment(1.0))
    stack.valkey.start()
    began = time.monotonic()
    work.submit(1)
    work.all_end()
    took = time.monotonic() - began
    work.judge(most_attempts=1)
    assert all(host.alive for host in stack.hosts)
    return took


@fault(
    "F07",
    "the broker forgets everything",
    "no job lost: all that waited run within 60 s",
    within_s=60,
)
def broker_wiped(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    count = trial.chance.randint(30, 80)
    work.submit_at_once(count, pause_s=0.15)
    time.sleep(trial.moment(0.3))
    stack.broker.redis.flushall()
    began = time.monotonic()
    eventually(lambda: work.count("queued") == 0, "all that waited run", 90)
    took = time.monotonic() - began
    trial.measure("broker wiped: all under way again", took)
    work.all_end()
    work.judge(most_attempts=1)
    return took


@fault(
    "F08",
    "the broker cannot be reached while jobs are submitted",
    "they are accepted (202), and run when it is back",
    within_s=30,
)
def broker_away(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    with ExitStack() as away:
        away.enter_context(stack.api_broker.refusing())
        if trial.chance.random() < 0.5:  # for everybody, or for the API alone
            for host in stack.hosts:
                away.enter_context(host.broker.refusing())
        work.submit(5, pause_s=0.1)
        time.sleep(trial.moment(2.0))
    began = time.monotonic()
    work.all_end()
    took = time.monotonic() - began
    work.judge(most_attempts=1)
    return took


@fault(
    "F09",
    "a worker's connections to the broker go silent",
    "a deaf worker ends by itself within 60 s, and is started again; no job is lost",
    within_s=60,
)
def half_open(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    with trial.supervised():
        for host in stack.hosts:
            host.broker.mute()
        time.sleep(trial.moment(0.2))
        began = time.monotonic()
        work.submit(6, pause_s=0.1)
        work.all_end()
        took = time.monotonic() - began
        trial.measure(f"deaf workers (patience {DEAF_S:g} s instead of 30 s): work again", took)
    stack.heal()
    work.judge()
    return took


@fault(
    "F10",
    "each message comes ten times, at once and in any order",
    "one run each; the others end quietly",
    within_s=LEASE_S,
)
def duplicates(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    with stack.api_broker.refusing():
        ids = work.submit(5, pause_s=0.25)
    messages = [each for each in ids for _ in range(10)]
    trial.chance.shuffle(messages)
    began = time.monotonic()
    stack.broker.ring(*messages)
    work.all_end()
    took = time.monotonic() - began
    stack.broker.ring(*messages[:10])  # and once more when they have ended
    eventually(lambda: stack.broker.waiting() == 0, "all messages are taken")
    work.judge(most_attempts=1)
    assert {stack.table.get(each).claims for each in ids} == {1}
    return took


@fault(
    "F32",
    "messages of another version: an unknown task, more arguments, no job's id",
    "no job is lost, no worker ends",
    within_s=RUNG_S + 2,
)
def other_version(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    with stack.api_broker.refusing():
        ids = work.submit(4, pause_s=0.1)
    celery = stack.broker.celery
    began = time.monotonic()
    celery.send_task("retort.advance_faster", args=[str(ids[0])], queue=SANDBOX_QUEUE)
    celery.send_task(ADVANCE, args=[str(ids[1]), {"hint": 1}], queue=SANDBOX_QUEUE)
    celery.send_task(ADVANCE, args=[str(ids[2])], kwargs={"priority": "high"}, queue=SANDBOX_QUEUE)
    celery.send_task(ADVANCE, args=["not an id"], queue=SANDBOX_QUEUE)
    celery.send_task(ADVANCE, args=[], queue=SANDBOX_QUEUE)
    # A rolling upgrade: one of two workers is ended politely and replaced meanwhile.
    trial.victim.stop()
    trial.victim.start(wait=False)
    work.all_end()
    took = time.monotonic() - began
    work.judge(most_attempts=1)
    assert all(host.alive for host in stack.hosts)
    return took


@fault(
    "F37",
    "100,000 jobs of a caller that may run none, and 2,000 messages for them, lie before others",
    "a new job of another caller does not wait for them",
    within_s=5,
)
def deep_queue(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    waiting = stack.sql("SELECT count(*) AS count FROM jobs WHERE state = 'queued'")[0].count
    if waiting < 100_000:
        _fill(trial)
    stack.broker.ring(*(row.id for row in stack.sql("SELECT id FROM jobs WHERE state = 'queued' LIMIT 2000")))
    took = []
    with own(stack) as client:
        for _ in range(10):
            number, document = work.document()
            began = time.monotonic()
            answer = client.post("/v1/jobs", json=document, headers={"Prefer": "wait=20"})
            took.append(time.monotonic() - began)
            assert answer.status_code == 200, answer.text
            work.note(UUID(answer.json()["id"]), number)
    work.judge(most_attempts=1)
    trial.measure("100,000 wait: a job of another caller, from sending to its result", max(took))
    return max(took)


def _fill(trial: Trial) -> None:
    """All in one statement; nothing but their number matters."""
    trial.stack.sql(
        "WITH blocked AS (INSERT INTO callers (id, name, most_running) VALUES (uuidv7(), %s, 0) RETURNING id)"
        " INSERT INTO jobs (id, caller_id, code, language, profile, limits)"
        " SELECT uuidv7(), blocked.id, 'print(1)', 'python', 'standard', '{}'::jsonb"
        " FROM blocked, generate_series(1, 100000)",
        f"blocked {trial.seed}",
    )
    trial.stack.sql("ANALYZE jobs")
