"""How the result of a task is judged: by the caller's tests, by the expected output, or not at all. Pure.

Tests run in the sandbox, after the program and in its namespace. Whether they passed is told by a sentinel: a
word of 128 random bits, new for each run, that the harness prints only once the tests have run. A program that
ends early, whatever its exit code and whatever it prints, has not passed. docs/tasks.md says what a program
that studies the harness could still fake.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from domain.states import Verdict
from domain.tasks import UNUSABLE, CheckKind
from worker.checks.literals import LITERALS

_SLOT = re.compile(r"@(PROGRAM|TESTS|TOKEN)@")
_SHOWN = 200  # characters of a line of output in a note

#: Verdicts that the result of the tests may still change: the program ended by itself.
_ENDED = frozenset({Verdict.OK, Verdict.ERROR})


@dataclass(frozen=True, slots=True)
class Harnessed:
    """What is run, and the sentinel's word; None where the output alone is looked at."""

    code: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict after the check, and the output without the sentinel; `cut` bytes of it were the sentinel."""

    verdict: str
    stdout: bytes
    cut: int = 0
    passed: bool | None = None  # None: there is no check, or it was not reached
    note: str | None = None


def tested_languages() -> frozenset[str]:
    """The languages in which tests can be run."""
    return frozenset(LITERALS)


def harness(language: str, code: str, check: Mapping[str, str]) -> Harnessed:
    """The program to run: the code itself, or the code with the tests after it."""
    tests = check.get(CheckKind.TESTS)
    if tests is None:
        return Harnessed(code)
    token = secrets.token_hex(16)
    literal = LITERALS[language]
    values = {"PROGRAM": literal(code), "TESTS": literal(tests), "TOKEN": token}
    template = files("worker.checks").joinpath("harness", f"{language}.txt").read_text(encoding="utf-8")
    # In one go: what a program or a test says is no slot.
    return Harnessed(_SLOT.sub(lambda slot: values[slot[1]], template), token)


def judge(check: Mapping[str, str], verdict: str, stdout: bytes, token: str | None) -> Judgement:
    """What the check says of a run with this verdict and output."""
    if token is not None:
        return _by_tests(verdict, stdout, token.encode())
    expected = check.get(CheckKind.STDOUT)
    if expected is None or verdict != Verdict.OK:
        return Judgement(verdict, stdout)
    difference = first_difference(expected, stdout.decode("utf-8", "replace"))
    if difference is None:
        return Judgement(verdict, stdout, passed=True)
    return Judgement(Verdict.CHECK_FAILED, stdout, passed=False, note=difference)


def _by_tests(verdict: str, stdout: bytes, token: bytes) -> Judgement:
    found = re.search(re.escape(token) + rb":(passed|failed|unusable)\n", stdout)
    if found is None:
        if verdict != Verdict.OK:
            return Judgement(verdict, stdout)
        note = "the program ended before the tests had run"
        return Judgement(Verdict.CHECK_FAILED, stdout, passed=False, note=note)
    rest = stdout[: found.start()] + stdout[found.end() :]
    cut = found.end() - found.start()
    word = found[1].decode()
    if verdict not in _ENDED:
        return Judgement(verdict, rest, cut)
    if word == "passed":
        return Judgement(verdict, rest, cut, passed=True)
    note = "the tests failed" if word == "failed" else f"{UNUSABLE}: the tests do not compile"
    return Judgement(Verdict.CHECK_FAILED, rest, cut, passed=False, note=note)


def comparable(text: str) -> list[str]:
    """The lines of an output that count: without spaces at their ends, without empty lines at the end."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def first_difference(expected: str, found: str) -> str | None:
    """The first line that differs, in words; None if none does."""
    wanted, got = comparable(expected), comparable(found)
    for number, (one, other) in enumerate(zip(wanted, got, strict=False), 1):
        if one != other:
            return f"line {number} of the output is {_short(other)}, expected is {_short(one)}"
    if len(wanted) == len(got):
        return None
    number = min(len(wanted), len(got)) + 1
    if len(got) < len(wanted):
        return f"the output ends before line {number}, expected there is {_short(wanted[number - 1])}"
    return f"line {number} of the output is {_short(got[number - 1])}, expected is the end"


def _short(line: str) -> str:
    return repr(line if len(line) <= _SHOWN else line[:_SHOWN] + "…")
