"""`make crowd`: a thousand tasks at once, against a gateway that takes 60 requests and 100,000 tokens a minute.

The minute is 0.6 s. All tasks are submitted over HTTP and written, run and repaired by several worker
processes. Whether limits held, retries were bounded and the breaker let one call through is for the gateway to
say; whether anything was lost or paid for twice, for the database.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
from sqlalchemy import func, select

from domain.states import FINAL_STATES
from domain.tables.attempt import attempts, model_calls
from domain.tables.job import jobs
from retort.embedded import Postgres, Valkey
from tests.conftest import migrate
from tests.crowd.gateway import WRONG_EVERY
from tests.crowd.stack import Size, Stack, raised
from tests.integration.model import parties
from tests.models import MODEL
from worker.model.gate import Door, DoorState, Gate
from worker.model.settings import ModelSettings
from worker.model.shared import Shared

CLIENTS = 8


@dataclass(slots=True)
class Report:
    """What came of a crowd."""

    jobs: int
    at_once: int  # unfinished when the last was submitted
    submitted_s: float
    seconds: float  # from then on, when the gateway began to answer
    gateway: dict[str, Any]
    breaker: tuple[int, int]  # opened, probed
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        found = self.gateway
        return [
            f"tasks       {self.jobs} in {self.seconds:.1f} s, {self.jobs / self.seconds:.1f} per second; "
            f"{self.at_once} under way at once, after {self.submitted_s:.1f} s of submitting",
            f"requests    {found['requests']} for {found['questions']} questions: {found['statuses']}; "
            f"at most {found['most_tries']} tries",
            f"a minute    at most {found['most_requests']} requests, {found['most_tokens']} tokens, "
            f"{found['most_at_once']} under way at once",
            f"breaker     opened {self.breaker[0]}, probed {self.breaker[1]} times, "
            f"{found['probe_after_s']} s after the last failure",
        ]


def crowd(stack: Stack, redis_url: str, count: int, within_s: float) -> Report:
    """Submit so many tasks, let the gateway answer, wait for all of them, and look what is wrong."""
    began = time.monotonic()
    _submit(stack, count)
    submitted = time.monotonic()
    at_once = stack.table.unfinished()
    stack.open()
    while _states(stack)["unfinished"]:
        if time.monotonic() > submitted + within_s:
            raise AssertionError(f"never: all tasks end; {_states(stack)}, the gateway: {stack.findings()}")
        time.sleep(0.2)
    seconds = time.monotonic() - submitted
    findings = stack.findings()
    state = parties.together(redis_url, 0.0, _door)
    breaker = (state.opens, state.probes)
    report = Report(count, at_once, submitted - began, seconds, findings, breaker, list(findings["wrong"]))
    if at_once != count:
        report.wrong.append(f"{at_once} of {count} tasks were under way at once")
    if breaker != (1, 1):
        report.wrong.append(f"the breaker opened {breaker[0]} and probed {breaker[1]} times: once is right")
    report.wrong += _in_the_database(stack, count, findings)
    return report


def _submit(stack: Stack, count: int) -> None:
    def some(number: int) -> None:
        headers = {"Authorization": f"Bearer {stack.keys[number % len(stack.keys)]}"}
        with httpx.Client(base_url=stack.url, headers=headers, trust_env=False, timeout=60) as client:
            for each in range(number, count, CLIENTS):
                job = {
                    "task": f"task {each}: print the square of {each}",
                    "model": MODEL,
                    "fallbacks": [],
                    "check": {"stdout": f"{each * each}\n"},
                    "reuse": "caller",
                }
                answer = client.post("/v1/jobs", json=job)
                assert answer.status_code == 202, answer.text

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(some, range(CLIENTS)))


def _states(stack: Stack) -> Counter[str]:
    """How many tasks are in each state, and how many of them have not ended."""
    with stack.table.engine.connect() as connection:
        rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        found = Counter({str(state): int(number) for state, number in rows})
    found["unfinished"] = found.total() - sum(found[state.value] for state in FINAL_STATES)
    return found


async def _door(shared: Shared) -> DoorState:
    door = Door(f"strict/{MODEL}")
    return (await Gate(shared, ModelSettings()).states([door]))[door.name]


def _in_the_database(stack: Stack, count: int, findings: dict[str, Any]) -> list[str]:
    """What is wrong with the rows: every task right at the attempt it must be, every request recorded."""
    with stack.table.engine.connect() as connection:
        outcomes = Counter(
            f"{row.state} {row.verdict} {row.outcome}" + ("" if row.cost_complete else ", cost unknown")
            for row in connection.execute(select(jobs))
        )
        tried = Counter(
            tuple(row) for row in connection.execute(
                select(attempts.c.round, attempts.c.verdict, func.count()).group_by(
                    attempts.c.round, attempts.c.verdict
                )
            )
        )  # fmt: skip
        calls = connection.execute(select(func.count()).select_from(model_calls)).scalar_one()
        paid = connection.execute(
            select(func.count()).select_from(model_calls).where(model_calls.c.answer.is_not(None))
        ).scalar_one()
    twice = len(range(0, count, WRONG_EVERY))
    wrong = []
    if outcomes != {"finished ok passed": count}:
        wrong.append(f"tasks ended as {dict(outcomes)}")
    expected = {(1, "error", twice): 1, (1, "ok", count - twice): 1, (2, "ok", twice): 1}
    if tried != expected:
        wrong.append(f"attempts were {sorted(map(str, tried))}, not {sorted(map(str, expected))}")
    if (calls, paid) != (findings["requests"], count + twice):
        wrong.append(f"{calls} calls are recorded, {paid} of them answered; {findings['requests']} were made")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make crowd", description="Many tasks at once, strictly watched.")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--models", type=int, default=2, help="processes that ask models")
    parser.add_argument("--sandboxes", type=int, default=2, help="processes that run programs")
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="retort-crowd-"))
    postgres = Postgres(folder / "postgres", folder / "run")
    valkey = Valkey(folder / "valkey", folder / "run")
    size = Size(models=chosen.models, sandboxes=chosen.sandboxes)
    try:
        postgres.start()
        valkey.start()
        migrate(postgres.url)
        urls = (postgres.url, valkey.url)
        with raised(folder, urls, docker.from_env(), chosen.jobs, size) as stack:
            report = crowd(stack, valkey.url, chosen.jobs, within_s=60 + chosen.jobs / 5)
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    for line in report.lines():
        print(line)
    for sentence in report.wrong[:20]:
        print(f"WRONG       {sentence}")
    print("failed" if report.wrong else "passed: all ended right, no limit was passed, nothing was lost")
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
