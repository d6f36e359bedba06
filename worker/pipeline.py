"""The step in which a program runs: in a cell, recorded, told, and judged where it is a task's."""

import logging
from collections.abc import Mapping
from typing import Any

from domain.bell import MAX_CLAIMS
from domain.limits import Language, Profile
from domain.states import State, Verdict
from worker.broker import Bell
from worker.checks import Harnessed
from worker.judging import Judging
from worker.leases import Lease
from worker.memory import Memory
from worker.sandbox.engine import Engine, EngineError
from worker.sandbox.pool import Lent, Pool, PoolUnavailable
from worker.sandbox.running import Ending, Program
from worker.sandbox.stream import CellLost
from worker.sandbox.verdict import decide
from worker.store import ClaimedJob, Store

log = logging.getLogger(__name__)

#: Sandbox failures of one job that end it: a program that takes its sandbox down does it again.
CRASHES = 2

_NO_OUTPUT = {"stdout": b"", "stderr": b"", "stdout_bytes": 0, "stderr_bytes": 0}


class Images:
    """Which image runs a language, and the content id of that image."""

    def __init__(self, engine: Engine, tags: Mapping[str, str]) -> None:
        self.tags = tags
        self._engine = engine
        self._digests: dict[str, str] = {}

    def digest(self, tag: str) -> str | None:
        """The content id; None if the engine does not tell. Asked for once: a tag of ours never moves."""
        if tag not in self._digests:
            try:
                self._digests[tag] = self._engine.image_digest(tag)
            except EngineError as e:
                log.warning("no content id of %s: %s", tag, e)
                return None
        return self._digests[tag]


class Pipeline:
    """Does running steps. Called from many threads at once."""

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        bell: Bell,
        images: Images,
        profiles: Mapping[str, Profile],
        languages: Mapping[str, Language],
        judging: Judging,
        memory: Memory,
    ) -> None:
        self._judging = judging
        self._memory = memory
        self._store = store
        self._pool = pool
        self._bell = bell
        self._images = images
        self._profiles = profiles
        self._languages = languages
        self._worker = pool.settings.instance

    @property
    def why_not(self) -> str | None:
        """Why no program can be run now; None where one can."""
        return self._pool.why_not

    def run(self, job: ClaimedJob, lease: Lease) -> None:
        """Run a claimed job's program."""
        try:
            image = self._images.tags[self._languages[job.language].image]
            profile = self._profiles[job.profile]
        except KeyError as e:
            # Stored by another version, or with other profiles; no retry here would change it.
            reason = f"this worker does not know {e}"
            self._store.break_(job, reason=reason, attempt={"failure": reason, **_NO_OUTPUT})
            self._bell.tell(job.id, State.BROKEN)
            return
        if job.cache and self._recalled(job, image):
            return
        harnessed = self._judging.harness(job)
        try:
            lent = self._pool.take(
                image,
                profile,
                code=harnessed.code.encode(),
                caller=str(job.caller_id) if job.reuse == "caller" else None,
            )
        except PoolUnavailable as e:
            log.warning("no sandbox, job waits: %s", e, extra={"job_id": str(job.id)})
            self._store.release(job)
            return
        self._run(job, lease, lent, harnessed)

    def _recalled(self, job: ClaimedJob, image: str) -> bool:
        """Whether an equal run of the same caller gave the result."""
        digest = self._images.digest(image)
        attempt = self._memory.recall(job, self._languages[job.language].file, digest)
        if attempt is None:
            return False
        attempt |= {"image": image, "image_digest": digest, "worker": self._worker}
        if job.task is not None:
            self._judging.record(job, job.task, attempt)
        elif self._store.finish(job, verdict=attempt["verdict"], reason=None, attempt=attempt):
            self._bell.tell(job.id, State.FINISHED)
        return True

    def _run(self, job: ClaimedJob, lease: Lease, lent: Lent, harnessed: Harnessed) -> None:
        reusable = False
        reset = lent.cell.caller is not None
        try:
            try:
                with lease.guarding(lent.cell.kill):
                    ending = lent.cell.run(
                        self._program(job, harnessed.code),
                        reset=reset,
                        on_start=lambda: self._bell.tell(job.id, State.RUNNING),
                    )
            except CellLost as e:
                self._crashed(job, lent, str(e))
                return
            if ending.killed:
                return  # the lease was lost: whoever has it now records the result
            self._finish(job, lent, ending, harnessed.token)
            reusable = reset and ending.status is not None
        finally:
            self._pool.give_back(lent, reusable=reusable)

    def _program(self, job: ClaimedJob, code: str) -> Program:
        return Program(
            code=code.encode(),
            file=self._languages[job.language].file,
            limits=job.limits,
            args=job.args,
            env=job.env,
            stdin=job.stdin,
        )

    def _finish(self, job: ClaimedJob, lent: Lent, ending: Ending, token: str | None) -> None:
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
        if job.task is not None:
            held = self._judging.settle(job, job.task, attempt, token)
        elif held := self._store.finish(job, verdict=decision.verdict.value, reason=None, attempt=attempt):
            self._bell.tell(job.id, State.FINISHED)
        if held and job.cache:
            self._memory.keep(job, self._languages[job.language].file, attempt)

    def _crashed(self, job: ClaimedJob, lent: Lent, why: str) -> None:
        log.warning("sandbox failed: %s", why, extra={"job_id": str(job.id), "container": lent.cell.id})
        attempt = self._attempt(lent)
        if job.task is not None:
            attempt |= self._judging.columns(job, job.task)
        if job.claims < min(CRASHES, MAX_CLAIMS):
            attempt["failure"] = f"sandbox_crash: {why}"[:2000]
            if self._store.retry(job, attempt=attempt):
                self._bell.tell(job.id, State.QUEUED)
                self._bell.ring(job.id)
            return
        attempt["verdict"] = Verdict.SANDBOX_CRASH.value
        reason = f"its sandbox failed {CRASHES} times: {why}"[:2000]
        if job.task is not None:
            self._judging.record(job, job.task, {**attempt, "note": reason})
            return
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
            "image_digest": self._images.digest(spec.image),
            "runtime": spec.runtime,
            "worker": self._worker,
        }
