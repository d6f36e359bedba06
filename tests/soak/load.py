"""Clients of a soak: each submits a job, waits for its end, and never gives up one that was accepted."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.soak.kinds import Kind
from tests.soak.stack import Stack

FINAL = frozenset({"finished", "cancelled", "broken"})

#: Seconds for which a client waits for a job before it counts as lost.
PATIENCE_S = 300.0


@dataclass
class Ledger:
    """What was accepted, and what came of it."""

    accepted: dict[UUID, Kind] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    given_up: list[UUID] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)  # answers and failures that made a client try again
    seconds: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, job_id: UUID, kind: Kind) -> None:
        """A job that must not be lost from now on."""
        with self._lock:
            self.accepted[job_id] = kind

    def end(self, kind: Kind, job: dict[str, Any], took_s: float) -> None:
        """A job's end, as a client sees it."""
        with self._lock:
            self.seconds.append(took_s)
            self.verdicts[str(job["verdict"] or job["state"])] += 1
            if job["verdict"] != kind.verdict or (kind.stdout is not None and job["stdout"] != kind.stdout):
                said = f"{kind.name} {job['id']}: {job['state']} {job['verdict']} {job['reason']}"
                self.wrong.append(f"{said} {str(job['stdout'])[:60]!r} {str(job['stderr'])[-200:]!r}")

    def trouble(self, what: str) -> None:
        """Something that made a client try again."""
        with self._lock:
            self.errors[what] += 1


def client_of(stack: Stack, kinds: Sequence[Kind], ledger: Ledger, until: float, seed: int) -> None:
    """Submit one job after the other until it is time."""
    chance = random.Random(seed)  # noqa: S311
    weights = [kind.weight for kind in kinds]
    with stack.client() as client:
        while time.monotonic() < until:
            (kind,) = chance.choices(kinds, weights)
            began = time.monotonic()
            job_id = _submit(client, kind, ledger, until)
            if job_id is None:
                return
            ledger.accept(job_id, kind)
            job = _await(client, job_id, ledger)
            if job is None:
                ledger.given_up.append(job_id)
            else:
                ledger.end(kind, job, time.monotonic() - began)


def _submit(client: httpx.Client, kind: Kind, ledger: Ledger, until: float) -> UUID | None:
    """The id of a new job; the same however often the answer was lost."""
    key = {"Idempotency-Key": str(uuid4())}
    while True:
        try:
            answer = client.post("/v1/jobs", json=kind.job, headers=key)
            if answer.status_code in (200, 202):
                return UUID(answer.json()["id"])
            ledger.trouble(str(answer.status_code))
        except httpx.HTTPError as e:
            ledger.trouble(type(e).__name__)
        if time.monotonic() > until + PATIENCE_S:
            return None
        time.sleep(0.2)


def _await(client: httpx.Client, job_id: UUID, ledger: Ledger) -> dict[str, Any] | None:
    """The job, once it has ended; None if it never does."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(httpx.HTTPError):
            answer = client.get(f"/v1/jobs/{job_id}", params={"wait": "10"})
            if answer.status_code == 200:
                job: dict[str, Any] = answer.json()
                if job["state"] in FINAL:
                    return job
                continue
            ledger.trouble(str(answer.status_code))
        time.sleep(0.2)
    return None
