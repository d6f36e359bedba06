"""Cancels that race with claim, start and end; webhooks whose sender dies; secrets that change meanwhile."""

import secrets
import signal
import time
from collections import Counter
from uuid import UUID

import httpx

from tests.faults.catalogue import tasks
from tests.faults.catalogue.workers import RUN_S
from tests.faults.entries import Trial, fault
from tests.faults.stack import Stack
from tests.faults.work import TWICE_S, Work, messages
from tests.harness import eventually
from tests.models import scripted_process
from tests.tasks import KEY

#: Cancels in one repetition: twenty of these are 1,000.
RACES = 50


@fault(
    "F30",
    f"{RACES} jobs are cancelled at random moments around claim, start and end",
    "cancelled with no result, or the real result; never both",
    within_s=30,
)
def cancel_races(trial: Trial) -> float:
    work, stack, chance = trial.work, trial.stack, trial.chance
    began = time.monotonic()
    won: Counter[str] = Counter()
    cancelled: list[UUID] = []
    for _ in range(RACES):
        (job_id,) = work.submit(1, pause_s=chance.choice([0, 0, 0.02, 60]))
        time.sleep(chance.random() * 0.04)
        answer = stack.client.post(f"/v1/jobs/{job_id}/cancel")
        won[str(answer.status_code)] += 1
        if answer.status_code == 200:
            cancelled.append(job_id)
            row = stack.table.get(job_id)
            assert (row.state, row.verdict, row.lease_token) == ("cancelled", None, None), row
        else:
            assert answer.status_code == 409, answer.text
    work.all_end()
    for job_id in cancelled:
        del work.expected[job_id]
        row, attempts = stack.table.get(job_id), stack.table.attempts(job_id)
        assert (row.state, row.verdict) == ("cancelled", None), row
        assert [each.verdict for each in attempts if each.verdict] == [], attempts
        assert [each.failure for each in attempts] in ([], ["cancelled"]), attempts
    # Whatever was cancelled holds no place: as many long jobs as there are places run at once.
    work.submit(4, pause_s=0.1)
    work.all_end()
    work.judge(most_attempts=1)
    work.told(cancelled)
    assert won["200"], won
    return time.monotonic() - began


def sender_dies(trial: Trial, boundary: str) -> float:
    """The process that sends webhooks kills itself."""
    work, stack = trial.work, trial.stack
    (stack.hooks_fuses / boundary).touch()
    work.submit(trial.chance.randint(1, 4), pause_s=trial.moment(0.2))
    eventually(lambda: stack.hooks_process.poll() is not None, "the sender dies")
    assert stack.hooks_process.returncode == -signal.SIGKILL
    before = messages(stack)
    stack.heal()
    # What it had taken is due again when its token ends; that is half a minute, which we let pass.
    stack.sql("UPDATE webhook_deliveries SET next_at = now() WHERE state = 'waiting' AND token IS NOT NULL")
    began = time.monotonic()
    work.all_end()
    work.told()
    took = time.monotonic() - began
    after = messages(stack)
    assert all(after[job] >= ids for job, ids in before.items()), "a message came again under another id"
    eventually(lambda: _waiting(stack) == 0, "all deliveries are recorded")
    work.judge()
    return took


def _waiting(stack: Stack) -> int:
    rows = stack.sql("SELECT count(*) FROM webhook_deliveries WHERE state = 'waiting'")
    return int(rows[0][0])


@fault(
    "F03.hook_taken",
    "the sender of webhooks dies with a message in hand",
    "it is sent when its token ends, under the same id",
    within_s=TWICE_S,
)
def taken(trial: Trial) -> float:
    return sender_dies(trial, "hook_taken")


@fault(
    "F03.hook_sent",
    "the sender of webhooks dies after it sent a message, before it took note",
    "it is sent again, under the same id",
    within_s=TWICE_S,
)
def sent(trial: Trial) -> float:
    return sender_dies(trial, "hook_sent")


@fault(
    "F40",
    "a caller's key and a webhook's secret are replaced while jobs run",
    "what runs ends and is told; the new key works, the old one ends; none is in a log",
    within_s=TWICE_S,
)
def rotated(trial: Trial) -> float:
    work, stack = trial.work, trial.stack
    work.submit(4, pause_s=RUN_S)
    time.sleep(trial.moment(RUN_S))
    old = stack.key
    mine = stack.client.get("/v1/keys").json()["keys"][0]  # the newest
    answer = stack.client.post(f"/v1/keys/{mine['id']}/rotate", json={"overlap_s": 0})
    assert answer.status_code == 201, answer.text
    stack.key = answer.json()["key"]
    stack.connect()
    (hook,) = stack.client.get("/v1/webhooks").json()["webhooks"]
    answer = stack.client.post(f"{hook['links']['self']}/rotate", json={})
    assert answer.status_code in {200, 201}, answer.text
    secret = answer.json()["secret"]
    began = time.monotonic()

    def refused() -> bool:
        told = httpx.get(
            f"{str(stack.client.base_url).rstrip('/')}/v1/jobs", headers={"Authorization": f"Bearer {old}"}
        )
        return told.status_code == 401

    eventually(refused, "the old key is refused")
    work.submit(2)
    work.all_end()
    took = time.monotonic() - began
    work.judge(most_attempts=1)
    newest = next(
        each for each in reversed(stack.receiver.received) if each.event["data"]["id"] in _named(work)
    )
    newest.verify(secret)
    logs = stack.logs()
    for each in (old, stack.key, secret):
        assert each not in logs, "a secret was logged"
    return took


@fault(
    "F40.gateway",
    "a gateway's key is replaced in its file while tasks run, then the former one is refused",
    "what runs ends; from then on the new key is used; neither is in a log",
    within_s=TWICE_S,
)
def another_gateway_key(trial: Trial) -> float:
    stack = trial.stack
    ids = tasks.submit(stack, 4)
    time.sleep(trial.moment(0.3))
    new = f"hs_{secrets.token_hex(20)}"
    log = stack.folder / f"model{stack.number()}.log"
    with scripted_process(log, "--key", new) as other:
        stack.gateway_key.write_text(new)
        began = time.monotonic()
        tasks.all_end(stack, ids)
        with stack.model.leading_to(int(httpx.URL(other).port or 0)):
            later = tasks.submit(stack, 4)
            tasks.all_end(stack, later)
        took = time.monotonic() - began
    tasks.judge(stack, [*ids, *later])
    logs = stack.logs()
    assert KEY not in logs, "the former key was logged"
    assert new not in logs, "the new key was logged"
    return took


def _named(work: Work) -> set[str]:
    return {str(each) for each in work.expected}
