"""The step in which a program runs: in a cell, recorded, told, and judged where it is a task's."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.bell import MAX_CLAIMS, queue_of
from domain.languages import Language
from domain.limits import Profile
from domain.results import believed
from domain.states import Runtime, State, Verdict
from storage.store import Storage, StorageError
from telemetry import traces, words
from worker import faults, meters
from worker.broker import Bell
from worker.checks import Harnessed
from worker.claimed import ClaimedJob
from worker.files import Artifacts, InputGone, inputs
from worker.judging import Judging
from worker.languages import NotKnown, NotOffered, Offers
from worker.leases import Lease
from worker.live import Live
from worker.memory import Memory
from worker.sandbox.lending import Lent, PoolUnavailable
from worker.sandbox.pool import Pool
from worker.sandbox.running import Ending, Input, Program
from worker.sandbox.statistics import image_name
from worker.sandbox.stream import CellLost, NotBegun
from worker.sandbox.verdict import CPU, WALL, decide
from worker.store import Store

log = logging.getLogger(__name__)

#: Sandbox failures of one job that end it: a program that takes its sandbox down does it again.
CRASHES = 2

#: Cells that one claim tries, as long as they fail before the program begins: an engine that was restarted
#: takes all that waited with it. A job may be why, by what it sends along, so there is an end to it.
CELLS = 5

#: What a model is told of a reason that is a word; other reasons speak for themselves.
_NOTES: dict[str, str | None] = {WALL: None, CPU: "it used up its CPU time"}

_NO_OUTPUT = {"stdout": b"", "stderr": b"", "stdout_bytes": 0, "stderr_bytes": 0}


@dataclass(frozen=True, slots=True)
class _Step:
    """A claimed job, and what it is run with."""

    job: ClaimedJob
    lease: Lease
    language: Language
    image: str
    profile: Profile
    harnessed: Harnessed


class Pipeline:
    """Does running steps. Called from many threads at once."""

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        bell: Bell,
        live: Live,
        offers: Offers,
        profiles: Mapping[str, Profile],
        judging: Judging,
        memory: Memory,
        storage: Storage,
    ) -> None:
        self._judging = judging
        self._memory = memory
        self._storage = storage
        self._store = store
        self._pool = pool
        self._bell = bell
        self._live = live
        self._offers = offers
        self._profiles = profiles
        self._worker = pool.settings.instance

    @property
    def why_not(self) -> str | None:
        """Why no program can be run now; None where one can."""
        return self._pool.why_not

    @property
    def tiers(self) -> tuple[Runtime, ...]:
        """The tiers that this worker offers."""
        return self._pool.settings.runtimes

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """Those of them that may be used now."""
        return self._pool.runtimes

    def run(self, job: ClaimedJob, lease: Lease) -> None:
        """Run a claimed job's program."""
        try:
            profile = self._profiles[job.profile]
            language, image = self._offers.choose(job.language, job.profile)
        except (KeyError, NotOffered) as e:
            # Stored by another version, with other profiles or images; no retry here would change it.
            self._break(job, str(e) if isinstance(e, NotOffered) else f"this worker does not know {e}")
            return
        except NotKnown as e:
            log.warning("no sandbox, job waits: %s", e, extra={"job_id": str(job.id)})
            self._store.release(job)
            return
        if job.bound_to not in (None, job.runtime):
            # Bound since it was stored. Where its caller's code may run is not for a retry to bend.
            self._break(job, f"its caller is bound to {job.bound_to}, and it was to run on {job.runtime}")
            return
        if job.cache and self._recalled(job, language, image):
            return
        step = _Step(job, lease, language, image, profile, self._judging.harness(job))
        try:
            with inputs(job, self._storage) as files:
                self._lend(step, files)
        except InputGone as e:
            self._break(job, str(e))
        except StorageError as e:
            log.warning("no storage, job waits: %s", e, extra={"job_id": str(job.id)})
            self._store.release(job)

    def _lend(self, step: _Step, files: Sequence[Input]) -> None:
        """Run it in a cell, if one can be had; in another one, where that fails before the program begins."""
        for left in reversed(range(CELLS)):
            lent = self._take(step)
            if lent is None or self._run(step, lent, files, last=not left):
                return

    def _take(self, step: _Step) -> Lent | None:
        job = step.job
        try:
            with traces.span("retort.sandbox.take") as span:
                lent = self._pool.take(
                    step.image,
                    step.profile,
                    runtime=job.runtime,
                    limits=job.limits,
                    code=step.harnessed.code.encode(),
                    caller=str(job.caller_id) if job.reuse == "caller" else None,
                )
                meters.lent(image_name(lent.cell.spec.image), job.profile, job.runtime.value, _how(lent))
                span.set(
                    {words.IMAGE: lent.cell.spec.image, words.START: lent.start, words.REUSED: lent.reused}
                )
        except PoolUnavailable as e:
            log.warning("no sandbox, job waits: %s", e, extra={"job_id": str(job.id)})
            self._store.release(job)
            return None
        faults.at("cell_taken", job.id)
        return lent

    def _break(self, job: ClaimedJob, reason: str) -> None:
        """It cannot run here, and no retry would change it."""
        log.error("job given up: %s", reason, extra={"job_id": str(job.id)})
        if self._store.break_(job, reason=reason, attempt={"failure": reason, **_NO_OUTPUT}):
            self._bell.tell(job.id, State.BROKEN)

    def _recalled(self, job: ClaimedJob, language: Language, image: str) -> bool:
        """Whether an equal run of the same caller gave the result."""
        digest = self._offers.digest(image)
        attempt = self._memory.recall(job, language.file, digest)
        if attempt is None:
            return False
        attempt |= {"image": image, "image_digest": digest, "worker": self._worker}
        if job.task is not None:
            self._judging.record(job, job.task, attempt)
        elif self._store.finish(job, verdict=attempt["verdict"], reason=None, attempt=attempt):
            self._bell.tell(job.id, State.FINISHED)
        return True

    def _run(self, step: _Step, lent: Lent, files: Sequence[Input], *, last: bool) -> bool:
        """False if the cell failed before the program began and is not the last that may be tried."""
        job, reusable = step.job, False
        artifacts = Artifacts(self._storage, heads=job.task is not None)
        reset = lent.cell.caller is not None
        try:
            try:
                with (
                    traces.span("retort.sandbox.run", attributes={words.CONTAINER: lent.cell.id}),
                    step.lease.guarding(lent.cell.kill),
                    self._live.watching(job.id, job.claims) as watched,
                ):
                    ending = lent.cell.run(
                        self._program(step, files),
                        reset=reset,
                        on_start=lambda: self._started(job),
                        on_output=watched.note,
                        sink=artifacts,
                    )
            except CellLost as e:
                if step.lease.lost:  # whoever has it now records the result
                    return True
                if isinstance(e, NotBegun) and not last:
                    log.warning("a sandbox failed before its job: %s", e, extra=_ids(job, lent))
                    return False
                self._crashed(job, lent, str(e))
                return True
            faults.at("output_read", job.id)
            if ending.killed:
                return True  # the lease was lost: whoever has it now records the result
            with traces.span("retort.record"):
                self._finish(step, lent, ending, artifacts)
            reusable = reset and ending.status is not None and not ending.lost
            return True
        finally:
            self._pool.give_back(lent, reusable=reusable)

    def _started(self, job: ClaimedJob) -> None:
        faults.at("program_started", job.id)
        self._bell.tell(job.id, State.RUNNING)

    @staticmethod
    def _program(step: _Step, files: Sequence[Input]) -> Program:
        job = step.job
        return Program(
            code=step.harnessed.code.encode(),
            file=step.language.file,
            compiled=step.language.compiled,
            limits=job.limits,
            args=job.args,
            env=job.env,
            stdin=job.stdin,
            files=files,
            collect=step.profile.files,
        )

    def _finish(self, step: _Step, lent: Lent, ending: Ending, artifacts: Artifacts) -> None:
        job, decision = step.job, decide(ending)
        meters.RAN.labels(step.language.name).observe(ending.wall_s)
        attempt = {
            **self._attempt(lent),
            "verdict": decision.verdict.value,
            "exit_code": decision.exit_code,
            "signal": decision.signal,
            "stdout": ending.stdout,
            "stderr": ending.stderr,
            "stdout_bytes": ending.stdout_bytes,
            "stderr_bytes": ending.stderr_bytes,
            "stdout_head": ending.stdout_head,
            "stderr_head": ending.stderr_head,
            "wall_s": ending.wall_s,
            "compile_s": ending.compile_s,
            "cpu_s": ending.cpu_s,
            "peak_memory_bytes": ending.peak_bytes,
            "oom_kills": ending.oom_kills,
            **_left(ending, artifacts),
        }
        if job.task is not None:
            attempt["note"] = _NOTES.get(decision.reason or "", decision.reason)
            held = self._judging.settle(job, job.task, attempt, step.harnessed.token)
        elif held := self._store.finish(
            job, verdict=decision.verdict.value, reason=decision.reason, attempt=attempt
        ):
            self._bell.tell(job.id, State.FINISHED)
        if held and job.cache:
            self._memory.keep(job, step.language.file, attempt)

    def _crashed(self, job: ClaimedJob, lent: Lent, why: str) -> None:
        log.warning("sandbox failed: %s", why, extra=_ids(job, lent))
        meters.CRASHES.labels(job.runtime.value).inc()
        attempt = self._attempt(lent)
        if job.task is not None:
            attempt |= self._judging.columns(job, job.task)
        if job.claims < min(CRASHES, MAX_CLAIMS):
            attempt["failure"] = f"sandbox_crash: {why}"[:2000]
            if self._store.retry(job, attempt=attempt):
                self._bell.queued(job.id, queue_of(State.RUNNING, job.priority, job.runtime))
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
            "image_digest": self._offers.digest(spec.image),
            "runtime": spec.runtime,
            "worker": self._worker,
        }


def _ids(job: ClaimedJob, lent: Lent) -> dict[str, str]:
    return {"job_id": str(job.id), "container": lent.cell.id}


def _how(lent: Lent) -> str:
    """How a job came by its cell, in a word."""
    return "reused" if lent.reused else lent.start


def _left(ending: Ending, artifacts: Artifacts) -> dict[str, Any]:
    """What the program left, as its attempt records it; nothing at all where it left nothing."""
    left_out = {**ending.left_out, **artifacts.not_stored}
    if not (artifacts.kept or left_out or ending.left_out_more or artifacts.results):
        return {}
    told = {"files": left_out, "more": ending.left_out_more} if left_out or ending.left_out_more else None
    return {
        "kept": artifacts.kept,
        "artifacts": len(artifacts.kept),
        "left_out": told,
        "results": believed(artifacts.results, {kept["name"] for kept in artifacts.kept}),
    }
