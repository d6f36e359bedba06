"""An API that lives and does nothing: its event loop stands still."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from tests.faults.entries import Trial, fault
from tests.faults.work import own
from tests.harness import eventually
from tests.stalling import STALLS, told_of, value


@fault(
    "F35",
    "the API's event loop stands still: something computes in it, or waits",
    "the other port says so within a second; log and counter tell; what came meanwhile is answered",
    within_s=1,
)
def standing_still(trial: Trial) -> float:
    """The time that the slowest answer of the other port took."""
    work, stack = trial.work, trial.stack
    server = stack.server
    assert server is not None
    work.submit_at_once(6, pause_s=0.6)
    work.running(1)
    time.sleep(trial.moment(0.3))
    before, lines = value(server.pulse_metrics(), STALLS), len(told_of(server))
    number, document = work.document()
    said: set[int] = set()
    slowest = 0.0
    with ThreadPoolExecutor(1) as pool, own(stack) as other:
        with stack.standing_still(computing=trial.chance.random() < 0.5):
            sent = pool.submit(other.post, "/v1/jobs", json=document)
            until = time.monotonic() + 1.5 + trial.moment(3.0)
            while time.monotonic() < until:
                began = time.monotonic()
                said.add(server.pulse()[0])
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.05)
            eventually(lambda: server.pulse()[0] == 503, "the other port says that it stands still")
            eventually(lambda: value(server.pulse_metrics(), STALLS) > before, "it is counted")
            eventually(lambda: len(told_of(server)) > lines, "it is logged")
            assert not sent.done(), "answered by a loop that stands still"
        began = time.monotonic()
        answer = sent.result(60)
        trial.measure("event loop goes on: what came meanwhile is answered", time.monotonic() - began)
    assert said <= {200, 503}, said
    assert answer.status_code == 202, answer.text
    work.note(UUID(answer.json()["id"]), number)
    eventually(lambda: server.pulse()[0] == 200, "all is well again")
    work.all_end()
    work.judge(most_attempts=1)
    assert len(told_of(server)) == lines + 1
    return slowest
