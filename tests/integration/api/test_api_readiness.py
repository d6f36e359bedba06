"""Readiness is progress: workers that live and take nothing, while programs wait that they could take."""

from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, update

from domain.ids import new_id
from domain.tables.caller import callers
from domain.tables.job import jobs
from domain.worker_statements import REPORT_WORKER
from tests.harness import LIMITS
from tests.integration.api.harness import Store

IDLE = {"roles": ["sandbox"], "runtimes": ["runc"], "jobs": 4, "busy": 0, "idle_s": 300.0}


def report(store: Store, instance: str = "a", *, ready: bool = True, **facts: Any) -> None:
    """A worker says how it is."""
    said = {"instance": instance, "ready": ready, "why_not": None, "facts": {**IDLE, **facts}}
    with store.engine.begin() as connection:
        connection.execute(REPORT_WORKER, said)


def waiting(store: Store, seconds: int = 120, *, most_running: int | None = None) -> None:
    """A program that has waited for so long, of a caller of its own."""
    ago = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    with store.engine.begin() as connection:
        caller_id = new_id()
        connection.execute(
            insert(callers), {"id": caller_id, "name": str(caller_id), "most_running": most_running}
        )
        row = {"id": new_id(), "caller_id": caller_id, "code": "1", "language": "python", "profile": "standard"}
        connection.execute(insert(jobs).values(limits=LIMITS.as_dict(), **row))
        connection.execute(update(jobs).where(jobs.c.id == row["id"]).values(created_at=ago))


def progress(client: httpx.Client) -> tuple[int, str | None]:
    """The status, and what keeps programs from being taken up."""
    answer = client.get("/readyz")
    document = answer.json()
    assert document["workers"]["ready"] is True
    assert document["ready"] == (answer.status_code == 200) == document["progress"]["ready"]
    why_not: str | None = document["progress"]["why_not"]
    return answer.status_code, why_not


def test_a_worker_that_lives_and_takes_nothing_is_not_ready(client: httpx.Client, store: Store) -> None:
    report(store)
    assert progress(client) == (200, None)  # nothing to do
    waiting(store)
    status, why_not = progress(client)
    assert status == 503
    assert why_not is not None
    assert why_not.startswith("a program has waited for 12")
    assert why_not.endswith("and no worker took one for 300 s")


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"busy": 4}, id="all its slots are busy: the queue is long, nothing is stuck"),
        pytest.param({"idle_s": 3.0}, id="it took a job a moment ago"),
        pytest.param({"runtimes": ["runsc"]}, id="it does not offer the tier"),
    ],
)
def test_a_program_may_wait_by_right(client: httpx.Client, store: Store, facts: dict[str, Any]) -> None:
    report(store, **facts)
    waiting(store)
    assert progress(client) == (200, None)


def test_a_worker_beside_it_that_takes_jobs_is_progress(client: httpx.Client, store: Store) -> None:
    report(store)
    report(store, "b", idle_s=1.0, busy=4)
    waiting(store)
    assert progress(client) == (200, None)


@pytest.mark.parametrize(
    ("seconds", "most_running"),
    [pytest.param(5, None, id="not for long"), pytest.param(120, 0, id="its caller may run none")],
)
def test_what_no_worker_could_take_is_no_standstill(
    client: httpx.Client, store: Store, seconds: int, most_running: int | None
) -> None:
    report(store)
    waiting(store, seconds, most_running=most_running)
    assert progress(client) == (200, None)


def test_a_task_that_waits_for_a_model_is_none_either(client: httpx.Client, store: Store) -> None:
    report(store)
    waiting(store)
    with store.engine.begin() as connection:
        connection.execute(update(jobs).values(code=None, task="t", next_state="generating"))
    assert progress(client) == (200, None)
