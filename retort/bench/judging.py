"""From a job that has ended to a measurement: was it right, at once, what did it use."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from retort.bench.measurement import Judgement, Measurement
from retort.bench.tasks import Task

Document = Mapping[str, Any]

#: First words of a task's `reason` where nothing of a model was judged.
NOT_JUDGED = frozenset({"model_failed", "budget_exceeded", "check_unusable"})

#: The verdict where a sandbox came down, whoever is to blame.
CRASH = "sandbox_crash"


def judge_task(job: Document) -> tuple[Judgement, str]:
    """Whether a model's last program was right, as the service's check found, and how it ended."""
    if job["state"] != "finished":
        return Judgement.ERROR, f"{job['state']}: {job.get('reason') or 'no reason given'}"
    if job["outcome"] == "passed":
        return Judgement.RIGHT, "passed"
    reason = str(job.get("reason") or job["verdict"])
    word = reason.partition(":")[0].split()[0]
    ours = word in NOT_JUDGED or job["verdict"] == CRASH
    return (Judgement.ERROR if ours else Judgement.WRONG), reason[:300]


def judge_program(task: Task, job: Document) -> tuple[Judgement, str]:
    """Whether a program did what it should: the verdict, and the output where one is expected."""
    if job["state"] != "finished":
        return Judgement.ERROR, f"{job['state']}: {job.get('reason') or 'no reason given'}"
    verdict = str(job["verdict"])
    if verdict == CRASH:
        return Judgement.ERROR, verdict
    if verdict != task.verdict:
        last = (job.get("stderr") or "").strip().rpartition("\n")[2]
        return Judgement.WRONG, f"{verdict}{': ' if last else ''}{last}"[:300]
    expected = None if task.check is None else task.check.stdout
    if expected is None:
        return Judgement.RIGHT, verdict
    if job.get("stdout_encoding") != "utf-8" or job.get("stdout_truncated"):
        return Judgement.WRONG, "the output is no text, or was cut"
    different = first_difference(expected, job["stdout"])
    return (Judgement.RIGHT, verdict) if different is None else (Judgement.WRONG, different[:300])


def first_difference(expected: str, printed: str) -> str | None:
    """The first line that is other than expected; None where none is.

    As the service compares: spaces at the ends of lines and empty lines at the end do not count.

    >>> first_difference("1\\n2", "1 \\r\\n2\\n\\n") is None
    True
    >>> first_difference("1\\n2", "1\\n3")
    'line 2 is "3"'
    """
    one, other = _lines(expected), _lines(printed)
    for number, (wanted, found) in enumerate(zip(one, other, strict=False), 1):
        if wanted != found:
            return f'line {number} is "{found[:80]}"'
    if len(one) == len(other):
        return None
    return f"{len(other)} lines instead of {len(one)}"


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def right_at_once(job: Document) -> bool | None:
    """Whether the first round's program was right; None where no program of it was judged.

    A sandbox that failed gives further attempts in the same round: the last of them counts.
    """
    rounds = [each for each in job["attempts"] if each["round"] is not None]
    if not rounds:
        return None
    first = min(each["round"] for each in rounds)
    last = max((each for each in rounds if each["round"] == first), key=lambda each: int(each["number"]))
    if last["verdict"] is not None:
        if last["check_passed"] is None:  # the program ended before any check
            return False
        return bool(last["check_passed"])
    return False if str(last["failure"]).startswith("no_code") else None


def seconds_between(job: Document) -> float:
    """From the job's acceptance to its end, by the service's clock."""
    begin, end = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    return (end - begin).total_seconds()


def measured_task(
    task: Task, job: Document, attempts: Iterable[Document], *, latency_s: float, **known: Any
) -> Measurement:
    """The measurement of a task; `attempts` are all of its attempts in full, `known` what the plan knows."""
    attempts = list(attempts)
    judgement, why = judge_task(job)
    calls = {call["id"]: call for attempt in attempts for call in attempt["calls"]}.values()
    return Measurement(
        **known,
        task=task.name,
        category=task.category,
        job_id=job["id"],
        judgement=judgement,
        why=why,
        verdict=job["verdict"],
        latency_s=latency_s,
        attempts=len(attempts),
        right_at_once=None if judgement is Judgement.ERROR else right_at_once(job),
        input_tokens=_sum_tokens(calls, "input_tokens", "cache_read_tokens", "cache_write_tokens"),
        output_tokens=_sum_tokens(calls, "output_tokens"),
        estimated=any(call["estimated"] for call in calls),
        cost_usd=f"{Decimal(job['cost_usd']):f}" if job["cost_complete"] else None,
        model_s=_sum(call["latency_s"] for call in calls),
        versions=tuple(sorted({str(call["model_version"]) for call in calls if call["model_version"]})),
        scripted=bool(job["scripted"]),
        depth=task.depth,
        **_used(job, attempts),
    )


def measured_program(task: Task, job: Document, *, latency_s: float, **known: Any) -> Measurement:
    """The measurement of a program."""
    judgement, why = judge_program(task, job)
    return Measurement(
        **known,
        task=task.name,
        category=task.category,
        job_id=job["id"],
        judgement=judgement,
        why=why,
        verdict=job["verdict"],
        latency_s=latency_s,
        attempts=len(job["attempts"]),
        depth=task.depth,
        **_used(job, [job]),
    )


def _used(job: Document, runs: list[Document]) -> dict[str, Any]:
    """What its sandboxes used; `runs` are documents with `usage`."""
    usages = [run["usage"] for run in runs if run["usage"]["sandbox_start"] is not None]
    cold = [usage["sandbox_start_s"] for usage in usages if usage["sandbox_start"] == "cold"]
    peaks = [usage["peak_memory_bytes"] for usage in usages if usage["peak_memory_bytes"] is not None]
    start = None
    if usages:
        start = "cold" if cold else str(usages[-1]["sandbox_start"])
    return {
        "run_s": _sum(usage["wall_s"] for usage in usages),
        "queue_s": job["usage"]["queue_s"],
        "start": start,
        "cold_start_s": max((each for each in cold if each is not None), default=None),
        "peak_memory_bytes": max(peaks, default=None),
    }


def _sum_tokens(calls: Iterable[Document], *names: str) -> int | None:
    """All tokens of these kinds; None where a call that was paid did not tell."""
    total = 0
    for call in calls:
        if call["cache_hit"]:
            continue
        if call[names[0]] is None and (call["cost_usd"] is None or Decimal(call["cost_usd"]) != 0):
            return None
        total += sum(int(call[name] or 0) for name in names)
    return total


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return round(sum(known), 6) if known else None
