"""What follows a run of a task's program: its check, and the decision to end or to try again."""

import logging
from collections.abc import Mapping
from typing import Any

from domain.bell import queue_of
from domain.limits import Limits, Profile
from domain.states import Outcome, State, Verdict
from worker import checks
from worker.broker import Bell
from worker.claimed import ClaimedJob, ClaimedTask
from worker.history import ended, rounds_of
from worker.model.refine import Again, Left, Round, Stop, decide
from worker.model.rules import RefineRules
from worker.task_store import TaskEnd, TaskStore

log = logging.getLogger(__name__)


class Judging:
    """Judges runs of tasks and moves their jobs on."""

    def __init__(
        self, tasks: TaskStore, bell: Bell, rules: RefineRules, profiles: Mapping[str, Profile]
    ) -> None:
        self._tasks = tasks
        self._bell = bell
        self._rules = rules
        self._profiles = profiles

    @staticmethod
    def harness(job: ClaimedJob) -> checks.Harnessed:
        """What is run for a job: its own code, or a task's program, with the tests if it has some."""
        if job.task is None:
            return checks.Harnessed(job.code or "")
        return checks.harness(job.language_name, _code(job.task), job.task.check)

    def settle(self, job: ClaimedJob, task: ClaimedTask, attempt: dict[str, Any], token: str | None) -> bool:
        """Judge and record a run that ended with a verdict; whether the lease held."""
        judged = checks.judge(task.check, attempt["verdict"], attempt["stdout"], token)
        attempt |= {
            "verdict": judged.verdict,
            "stdout": judged.stdout,
            "stdout_bytes": attempt["stdout_bytes"] - judged.cut,
            "check_passed": judged.passed,
            "note": judged.note or attempt.get("note"),
        }
        return self.record(job, task, attempt)

    def record(self, job: ClaimedJob, task: ClaimedTask, attempt: dict[str, Any]) -> bool:
        """Record a run that was judged, and end the task or have a model try again."""
        attempt |= self.columns(job, task)
        if attempt["verdict"] == Verdict.SANDBOX_CRASH:
            step: Stop | Again = Stop(Outcome.FAILED, attempt["verdict"], attempt.get("note"))
        else:
            before = ended(rounds_of(self._tasks, job.id)) if task.round > 1 else ()  # most have none
            rounds = (*before, _round(job, task, attempt))
            step = decide(
                self._rules,
                task.policy,
                rounds,
                checked=bool(task.check),
                larger=self._profiles[job.profile].larger in self._profiles,
            )
        if isinstance(step, Stop):
            end = TaskEnd(step.verdict, step.outcome, step.reason, attempt["model"])
            held = self._tasks.finish(job, task.round, end, attempt=attempt)
            if held:
                self._bell.tell(job.id, State.FINISHED)
            return held
        profile, limits = self._larger(job) if step.larger else (job.profile, job.limits)
        held = self._tasks.next_round(job, task.round, profile=profile, limits=limits, attempt=attempt)
        if held:
            self._bell.queued(job.id, queue_of(State.GENERATING, job.priority))
        return held

    def columns(self, job: ClaimedJob, task: ClaimedTask) -> dict[str, Any]:
        """What every attempt at a task records of how its program came about."""
        draft = task.draft
        return {
            "code": _code(task),
            "round": task.round,
            "model": None if draft is None else draft.model,
            "choice": None if draft is None or draft.choice is None else dict(draft.choice),
            "cost_usd": None if draft is None else draft.cost_usd,
            "scripted": draft is not None and draft.scripted,
            "profile": job.profile,
            "limits": job.limits.as_dict(),
        }

    def _larger(self, job: ClaimedJob) -> tuple[str, Limits]:
        """The larger profile, and in it no limit less than now."""
        larger = self._profiles[self._profiles[job.profile].larger or job.profile]
        defaults = larger.defaults.as_dict()
        now = job.limits.as_dict()
        wanted: dict[str, Any] = {
            # None is no limit, which is more than any.
            name: None if None in (now[name], usual) else max(now[name], min(usual, larger.choices[name].most))
            for name, usual in defaults.items()
        }
        return larger.name, Limits(**wanted)


def _code(task: ClaimedTask) -> str:
    return "" if task.draft is None else task.draft.code


def _round(job: ClaimedJob, task: ClaimedTask, attempt: Mapping[str, Any]) -> Round:
    return Round(
        number=task.round,
        code=attempt["code"],
        model=attempt["model"] or "",
        verdict=attempt["verdict"],
        exit_code=attempt.get("exit_code"),
        signal=attempt.get("signal"),
        stdout=attempt["stdout"],
        stderr=attempt["stderr"],
        stdout_bytes=attempt["stdout_bytes"],
        stderr_bytes=attempt["stderr_bytes"],
        limits=job.limits,
        check_passed=attempt.get("check_passed"),
        note=attempt.get("note"),
        files=tuple(Left(kept["name"], kept["size"], kept["head"]) for kept in attempt.get("kept", ())),
    )
