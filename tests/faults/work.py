"""Jobs that are under way when a fault comes, and what must hold of each of them afterwards."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from domain.bell import Output, output_key
from domain.states import FINAL_STATES
from tests.faults.host import LEASE_S
from tests.faults.stack import Stack, gone
from tests.harness import eventually

#: Each run writes a word of its own, so that runs can be counted; the last line is the job's own number.
CODE = """import os, sys, time
print(os.urandom(8).hex(), file=sys.stderr, flush=True)
time.sleep({pause})
{more}
print({number})
"""

#: What an attempt may fail of when it is not the program's fault; the beginning of it.
OURS = ("worker_lost", "sandbox_crash")

#: Attempts of one job at the most: as many as it may have claims.
MOST_ATTEMPTS = 3


@dataclass
class Work:
    """The jobs of one repetition."""

    stack: Stack
    expected: dict[UUID, int] = field(default_factory=dict)

    # --- submitting -------------------------------------------------------------------------------

    def document(self, pause_s: float = 0.0, more: str = "", **fields: Any) -> tuple[int, dict[str, Any]]:
        """A job, and the number that it prints."""
        number = self.stack.number()
        code = CODE.format(pause=pause_s, more=more, number=number)
        return number, {"code": code, "reuse": "caller", **fields}

    def submit(self, count: int = 1, *, pause_s: float = 0.0, more: str = "", **fields: Any) -> list[UUID]:
        """So many jobs, by HTTP."""
        made = []
        for _ in range(count):
            number, document = self.document(pause_s, more, **fields)
            answer = self.stack.client.post("/v1/jobs", json=document)
            assert answer.status_code in {200, 202}, answer.text
            made.append(self.note(UUID(answer.json()["id"]), number))
        return made

    def submit_at_once(self, count: int, *, pause_s: float = 0.0) -> list[UUID]:
        """The same from several clients."""
        with ThreadPoolExecutor(8) as clients:
            each = [clients.submit(self.submit, 1, pause_s=pause_s) for _ in range(count)]
            return [job_id for done in each for job_id in done.result()]

    def note(self, job_id: UUID, number: int) -> UUID:
        """A job that was submitted in some other way."""
        self.expected[job_id] = number
        return job_id

    # --- waiting ----------------------------------------------------------------------------------

    def states(self, ids: Iterable[UUID] | None = None) -> dict[UUID, str]:
        """The state of each."""
        wanted = list(self.expected if ids is None else ids)
        rows = self.stack.sql("SELECT id, state FROM jobs WHERE id = ANY(%s)", wanted)
        return {row.id: row.state for row in rows}

    def count(self, state: str) -> int:
        """How many are in a state."""
        return sum(each == state for each in self.states().values())

    def running(self, least: int, ids: Iterable[UUID] | None = None) -> None:
        """Wait until so many run."""
        wanted = None if ids is None else list(ids)
        eventually(
            lambda: list(self.states(wanted).values()).count("running") >= least,
            lambda: f"{least} jobs run: {self.states(wanted)}",
        )

    def begun(self, ids: Iterable[UUID]) -> None:
        """Wait until the programs of these jobs were heard of."""
        wanted = list(ids)
        eventually(lambda: all(self.runs(each) for each in wanted), "the programs run")

    def held_by(self, instance: str) -> dict[UUID, UUID]:
        """Jobs that an instance has a lease of, and the token of each."""
        mine = list(self.expected)
        query = "SELECT id, lease_token FROM jobs WHERE leased_by = %s AND id = ANY(%s)"
        return {row.id: row.lease_token for row in self.stack.sql(query, instance, mine)}

    def ended(self) -> bool:
        """Whether all have ended."""
        final = {state.value for state in FINAL_STATES}
        found = self.states()
        return len(found) == len(self.expected) and set(found.values()) <= final

    def all_end(self, within_s: float = 90) -> float:
        """Wait until all have ended; how long that took, in seconds."""
        began = time.monotonic()
        eventually(lambda: self.stack.patiently(self.ended), lambda: f"all jobs end: {self.states()}", within_s)
        return time.monotonic() - began

    def runs(self, job_id: UUID) -> set[bytes]:
        """The words of the runs of a job that were seen live."""
        found: dict[int, bytes] = {}
        entries: Any = self.stack.broker.redis.xrange(output_key(job_id))
        for _, fields in entries:
            part = Output.parse(fields)
            if part.stream == "stderr":
                found[part.attempt] = found.get(part.attempt, b"") + part.data
        return set(found.values())

    # --- judging ----------------------------------------------------------------------------------

    def judge(self, *, hooks: bool = True, most_attempts: int = MOST_ATTEMPTS) -> None:
        """Every job has one recorded result, the right one; every run is in the books; the end was told."""
        for job_id, number in self.expected.items():
            row, attempts = self.stack.table.get(job_id), self.stack.table.attempts(job_id)
            ends = [(each.verdict, each.failure) for each in attempts]
            said = f"{job_id}: {row.state} {row.verdict} {row.reason}, {ends}"
            assert (row.state, row.verdict) == ("finished", "ok"), said
            assert (row.lease_token, row.lease_until) == (None, None), said
            results = [each for each in attempts if each.verdict is not None]
            assert [bytes(each.stdout) for each in results] == [b"%d\n" % number], said
            others = [each.failure for each in attempts if each.verdict is None]
            assert all(str(each).startswith(OURS) for each in others), said
            assert [each.number for each in attempts] == list(range(1, len(attempts) + 1)), said
            assert len(attempts) <= most_attempts, said
            seen = self.runs(job_id)
            assert len(seen) <= len(attempts), f"{len(seen)} runs were seen; {said}"
        if hooks:
            self.told()
        self.clean()

    def told(self, ids: Iterable[UUID] | None = None) -> None:
        """The end of each job was told, once or more often, always as the same message."""
        wanted = {str(each) for each in (self.expected if ids is None else ids)}

        def came() -> bool:
            return wanted <= messages(self.stack).keys()

        eventually(came, lambda: f"webhooks came: {wanted - messages(self.stack).keys()}")
        found = messages(self.stack)
        several = {job: found[job] for job in wanted if len(found[job]) != 1}
        assert not several, f"more than one message for a job: {several}"

    def clean(self) -> None:
        """No container is left of a worker that is gone, and nobody else's was touched."""
        gone(self.stack, abandoned(self.stack))
        assert self.stack.untouched(), "another instance's container was touched"


def messages(stack: Stack) -> dict[str, set[str]]:
    """For each job, the ids of the messages that told of it."""
    found: dict[str, set[str]] = {}
    for received in list(stack.receiver.received):
        found.setdefault(received.event["data"]["id"], set()).add(received.id)
    return found


def abandoned(stack: Stack) -> set[str]:
    """Containers of former processes of those hosts that have a process."""
    found: set[str] = set()
    for host in stack.hosts:
        if not host.alive:
            continue
        each = stack.docker.api.containers(all=True, filters={"label": f"retort.instance={host.instance}"})
        newest = max((c["Created"] for c in each), default=0)
        mine = {c["Labels"].get("retort.worker") for c in each if c["Created"] == newest}
        found |= {c["Id"] for c in each if c["Labels"].get("retort.worker") not in mine}
    return found


def own(stack: Stack) -> httpx.Client:
    """Another client of the API, for a thread of its own."""
    assert stack.server is not None
    headers = {"Authorization": f"Bearer {stack.key}"}
    return httpx.Client(base_url=stack.server.url, headers=headers, timeout=60, trust_env=False)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


#: Within which a job that was lost must have ended: twice its lease, beside its own time.
TWICE_S = 2 * LEASE_S
