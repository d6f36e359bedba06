"""The refinement policy: what has happened so far decides whether and how a model is asked again. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from domain.limits import Limits
from domain.states import Outcome, Verdict
from domain.tasks import UNUSABLE, Policy, Reason
from worker.model.extract import Problem
from worker.model.normalise import excerpt, telling
from worker.model.rules import RefineRules


@dataclass(frozen=True, slots=True)
class Left:
    """A file that a program left: its size in bytes, and how it begins if it is a text."""

    name: str
    size: int
    head: str | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What one round gave: a program and how it ended, or `problem`, why there was no program.

    `answer` is the model's text, kept where it has no program. Outputs are what was kept of them.
    """

    number: int
    code: str | None = None
    problem: Problem | None = None
    answer: str = ""
    model: str = ""
    verdict: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    limits: Limits | None = None
    check_passed: bool | None = None  # None: there was no check, or it was not reached
    note: str | None = None
    files: tuple[Left, ...] = ()  # what it left in its work folder

    @property
    def silent(self) -> bool:
        """It ended well and gave nothing."""
        return self.verdict == Verdict.OK and not self.stdout_bytes and not self.files


@dataclass(frozen=True, slots=True)
class Stop:
    """The task has ended. `reason` is None for a success."""

    outcome: Outcome
    verdict: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """A model is asked once more. `larger` moves the job to the larger profile."""

    larger: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How the next program is asked for.

    `shown` are the rounds that the conversation holds, `summed_up` those before, told in a line each.
    """

    number: int
    fresh: bool
    escalate: bool
    shown: tuple[Round, ...] = ()
    summed_up: tuple[Round, ...] = ()


def decide(
    rules: RefineRules, policy: Policy, rounds: Sequence[Round], *, checked: bool, larger: bool = False
) -> Stop | Again:
    """What follows the last of `rounds`; `checked` says that there is a check, `larger` a larger profile."""
    last = rounds[-1]
    reason = _why_stop(rules, policy, rounds)
    if last.verdict == Verdict.OK and (not checked or last.check_passed):
        silent = rules.silent_is_wrong and not checked and last.silent
        if reason is not None or not silent:
            return Stop(Outcome.PASSED if checked else Outcome.RAN, last.verdict)
    if reason is not None:
        return Stop(Outcome.FAILED, verdict_of(rounds), reason)
    starved = last.verdict in (Verdict.TIMEOUT, Verdict.OUT_OF_MEMORY)
    return Again(larger=starved and larger and policy.larger_profile)


def verdict_of(rounds: Sequence[Round]) -> str:
    """The verdict of a task: that of the last program that ran, or that there never was one."""
    return next((r.verdict for r in reversed(rounds) if r.verdict is not None), Verdict.NO_CODE.value)


def _why_stop(rules: RefineRules, policy: Policy, rounds: Sequence[Round]) -> str | None:
    last = rounds[-1]
    if last.problem is Problem.REFUSED:
        return Reason.NO_CODE.say("the model refused, or its answer was held back")
    if last.note is not None and last.note.startswith(UNUSABLE):
        return Reason.CHECK_UNUSABLE.say(last.note)
    same = sum(signature(each) == signature(last) for each in rounds)
    if last.problem is not None:
        if len(rounds) >= policy.max_attempts or same >= rules.same_errors:
            return Reason.NO_CODE.say(f"the model's answers hold no program ({last.problem})")
        return None
    if len(rounds) >= policy.max_attempts:
        return Reason.ATTEMPTS_USED.say(f"{len(rounds)} of {policy.max_attempts} attempts are used")
    if last.code is not None and fingerprint(last.code) in {
        fingerprint(each.code) for each in rounds[:-1] if each.code is not None
    }:
        return Reason.SAME_CODE.say("the model gave a program again that had failed before")
    if same >= rules.same_errors:
        return Reason.SAME_ERROR.say(f"{same} programs failed in the same way")
    return None


def fingerprint(code: str) -> bytes:
    """Equal for programs that differ only in blank lines and spaces at the ends of lines."""
    lines = (line.rstrip() for line in code.splitlines())
    return hashlib.sha256("\n".join(line for line in lines if line).encode("utf-8", "replace")).digest()


def signature(round_: Round) -> tuple[object, ...]:
    """Equal for failures that look alike: same end, same last words, whatever the addresses and times in them.

    After a timeout or lack of memory the limits count, too: with others it is another failure.
    """
    if round_.problem is not None:
        return (round_.problem,)
    starved = round_.verdict in (Verdict.TIMEOUT, Verdict.OUT_OF_MEMORY)
    if starved:
        return (round_.verdict, round_.limits)
    said = tuple(telling(excerpt(round_.stderr, 0, 2048, written=0, equal=True)))[-3:]
    return (round_.verdict, round_.exit_code, round_.signal, said, round_.note)


def plan(rules: RefineRules, rounds: Sequence[Round]) -> Plan:
    """How the program after `rounds` is asked for."""
    number = len(rounds) + 1
    fresh = rules.fresh_at > 1 and number == rules.fresh_at
    since = rules.fresh_at - 1 if 1 < rules.fresh_at <= number else 0
    escalate = rules.escalate_at > 1 and number >= rules.escalate_at
    return Plan(number, fresh, escalate, shown=tuple(rounds[since:]), summed_up=tuple(rounds[:since]))
