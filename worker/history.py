"""What has happened to a task so far, as the refinement policy reads it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.limits import Limits
from worker.model.extract import Problem
from worker.model.refine import Left, Round
from worker.task_store import TaskStore

#: How the failure of an attempt begins whose model gave no program; what follows is the problem.
NO_CODE = "no_code: "


def rounds_of(tasks: TaskStore, job_id: UUID) -> tuple[Round, ...]:
    """The rounds that ended, in order; of each its last attempt, which is the one that was not lost."""
    attempts: dict[int, Row[Any]] = {row.round: row for row in tasks.rounds(job_id)}
    if not attempts:
        return ()
    without = any(row.failure is not None for row in attempts.values())
    answers = {row.round: str(row.answer) for row in tasks.answers(job_id)} if without else {}
    return tuple(_round(row, answers.get(number, "")) for number, row in sorted(attempts.items()))


def _round(row: Row[Any], answer: str) -> Round:
    problem = None
    if row.failure is not None and row.failure.startswith(NO_CODE):
        problem = Problem(row.failure.removeprefix(NO_CODE))
    return Round(
        number=row.round,
        code=None if problem else row.code,
        problem=problem,
        answer=answer,
        model=row.model or "",
        verdict=row.verdict,
        exit_code=row.exit_code,
        signal=row.signal,
        stdout=bytes(row.stdout),
        stderr=bytes(row.stderr),
        stdout_bytes=row.stdout_bytes,
        stderr_bytes=row.stderr_bytes,
        limits=None if row.limits is None else Limits(**row.limits),
        check_passed=row.check_passed,
        note=row.note,
        files=tuple(Left(each["name"], each["size"], each["head"]) for each in row.files),
    )


def ended(rounds: Sequence[Round]) -> tuple[Round, ...]:
    """Those that count: a round whose every attempt was lost with its worker is still open."""
    return tuple(each for each in rounds if each.verdict is not None or each.problem is not None)
