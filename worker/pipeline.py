"""The story of one step of a job: claim it, run it in a cell, record what happened, tell."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from domain.bell import MAX_CLAIMS
from domain.languages import Language
from domain.limits import Profile
from domain.results import believed
from domain.states import State, Verdict
from storage.store import Storage, StorageError
from worker.broker import Bell
from worker.files import Artifacts, InputGone, inputs
from worker.languages import NotOffered, Offers
from worker.leases import Lease, Leases
from worker.sandbox.pool import Lent, Pool, PoolUnavailable
from worker.sandbox.running import Ending, Input, Program
from worker.sandbox.stream import CellLost
from worker.sandbox.verdict import decide
from worker.store import ClaimedJob, Left, Store

log = logging.getLogger(__name__)

#: Sandbox failures of one job that end it: a program that takes its sandbox down does it again.
CRASHES = 2

_NO_OUTPUT = {"stdout": b"", "stderr": b"", "stdout_bytes": 0, "stderr_bytes": 0}


class Pipeline:
    """Does steps. Called from many threads at once."""

    def __init__(
        self,
        *,
        store: Store,
        leases: Leases,
        pool: Pool,
        bell: Bell,
        offers: Offers,
        profiles: Mapping[str, Profile],
        storage: Storage,
    ) -> None:
        self._storage = storage
        self._store = store
        self._leases = leases
        self._pool = pool
        self._bell = bell
        self._offers = offers
        self._profiles = profiles
        self._worker = pool.settings.instance
        self.draining = False
        self.advanced_at = time.monotonic()

    def advance(self, job_id: UUID) -> None:
        """Do the next step of a job, if it is to be had. Returning without a claim leaves it to the sweeper."""
        self.advanced_at = time.monotonic()
        if self.draining or self._pool.why_not is not None:
            return
        job = self._store.claim(job_id, uuid4(), self._worker, State.RUNNING)
        if job is None:
            return
        with self._leases.hold(job) as lease:
            try:
                profile = self._profiles[job.profile]
                language, image = self._offers.choose(job.language, job.profile)
            except (KeyError, NotOffered) as e:
                # Stored by another version, with other profiles or images; no retry here would change it.
                self._break(job, str(e) if isinstance(e, NotOffered) else f"this worker does not know {e}")
                return
            try:
                with inputs(job, self._storage) as files:
                    self._lend(job, language, lease, image, profile, files)
            except InputGone as e:
                self._break(job, str(e))
            except StorageError as e:
                log.warning("no storage, job waits: %s", e, extra={"job_id": str(job.id)})
                self._store.release(job)

    def _lend(
        self,
        job: ClaimedJob,
        language: Language,
        lease: Lease,
        image: str,
        profile: Profile,
        files: Sequence[Input],
    ) -> None:
        try:
            lent = self._pool.take(
                image,
                profile,
                code=(job.code or "").encode(),
                caller=str(job.caller_id) if job.reuse == "caller" else None,
            )
        except PoolUnavailable as e:
            log.warning("no sandbox, job waits: %s", e, extra={"job_id": str(job.id)})
            self._store.release(job)
            return
        self._run(job, lease, lent, self._program(job, language, files))

    def _break(self, job: ClaimedJob, reason: str) -> None:
        """It cannot run here, and no retry would change it."""
        if self._store.break_(job, reason=reason, attempt={"failure": reason, **_NO_OUTPUT}):
            self._bell.tell(job.id, State.BROKEN)

    def _run(self, job: ClaimedJob, lease: Lease, lent: Lent, program: Program) -> None:
        reusable = False
        artifacts = Artifacts(self._storage)
        reset = lent.cell.caller is not None
        try:
            try:
                with lease.guarding(lent.cell.kill):
                    ending = lent.cell.run(
                        program,
                        reset=reset,
                        on_start=lambda: self._bell.tell(job.id, State.RUNNING),
                        sink=artifacts,
                    )
            except CellLost as e:
                self._crashed(job, lent, str(e))
                return
            if ending.killed:
                return  # the lease was lost: whoever has it now records the result
            self._finish(job, lent, ending, artifacts)
            reusable = reset and ending.status is not None and not ending.lost
        finally:
            self._pool.give_back(lent, reusable=reusable)

    def _program(self, job: ClaimedJob, language: Language, files: Sequence[Input]) -> Program:
        return Program(
            code=(job.code or "").encode(),
            file=language.file,
            compiled=language.compiled,
            limits=job.limits,
            args=job.args,
            env=job.env,
            stdin=job.stdin,
            files=files,
            collect=self._profiles[job.profile].files,
        )

    def _finish(self, job: ClaimedJob, lent: Lent, ending: Ending, artifacts: Artifacts) -> None:
        decision = decide(ending)
        attempt = {
            **self._attempt(lent),
            "verdict": decision.verdict.value,
            "exit_code": decision.exit_code,
            "signal": decision.signal,
            "stdout": ending.stdout,
            "stderr": ending.stderr,
            "stdout_bytes": ending.stdout_bytes,
            "stderr_bytes": ending.stderr_bytes,
            "wall_s": ending.wall_s,
            "cpu_s": ending.cpu_s,
            "peak_memory_bytes": ending.peak_bytes,
            "oom_kills": ending.oom_kills,
        }
        reason, left = decision.reason, _left(ending, artifacts)
        if self._store.finish(job, verdict=decision.verdict.value, reason=reason, attempt=attempt, left=left):
            self._bell.tell(job.id, State.FINISHED)

    def _crashed(self, job: ClaimedJob, lent: Lent, why: str) -> None:
        log.warning("sandbox failed: %s", why, extra={"job_id": str(job.id), "container": lent.cell.id})
        attempt = self._attempt(lent)
        if job.claims < min(CRASHES, MAX_CLAIMS):
            attempt["failure"] = f"sandbox_crash: {why}"[:2000]
            if self._store.retry(job, attempt=attempt):
                self._bell.tell(job.id, State.QUEUED)
                self._bell.ring(job.id)
            return
        attempt["verdict"] = Verdict.SANDBOX_CRASH.value
        reason = f"its sandbox failed {CRASHES} times: {why}"[:2000]
        if self._store.finish(job, verdict=Verdict.SANDBOX_CRASH.value, reason=reason, attempt=attempt):
            self._bell.tell(job.id, State.FINISHED)

    def _attempt(self, lent: Lent) -> dict[str, Any]:
        spec = lent.cell.spec
        return {
            **_NO_OUTPUT,
            "sandbox_start": lent.start,
            "sandbox_start_s": lent.waited_s,
            "sandbox_reused": lent.reused,
            "image": spec.image,
            "image_digest": self._offers.digest(spec.image),
            "runtime": spec.runtime,
            "worker": self._worker,
        }


def _left(ending: Ending, artifacts: Artifacts) -> Left | None:
    """What the program left, if anything."""
    left_out = {**ending.left_out, **artifacts.not_stored}
    if not (artifacts.kept or left_out or ending.left_out_more or artifacts.results):
        return None
    told = {"files": left_out, "more": ending.left_out_more} if left_out or ending.left_out_more else None
    results = believed(artifacts.results, {kept["name"] for kept in artifacts.kept})
    return Left(artifacts.kept, told, results)
