"""Exit codes of `retort run`. docs/operations.md shows the table to users.

A program's own exit code is passed on, so a number below can also be the program's; `--json` tells which.
"""

from typing import Any

USAGE = 64  # the request was refused
NO_INPUT = 66  # the file cannot be read
UNREACHABLE = 69  # nobody answers at RETORT_URL, or not now
OUR_FAILURE = 70  # the job is broken: the service failed, not the program
UNFINISHED = 75  # of a benchmark: what may be spent was spent
NO_PERMISSION = 77  # no valid API key
INTERRUPTED = 130

VERDICTS = {
    "ok": 0,
    "timeout": 124,  # as `timeout` says it
    "out_of_memory": 137,  # as a shell shows the kernel's SIGKILL
    "output_limit": 120,
    "disk_limit": 121,
    "compile_error": 122,
    "check_failed": 123,
    "sandbox_crash": 125,
    "no_code": 119,
}


def of_job(job: dict[str, Any]) -> int:
    """The exit code that tells how a job ended."""
    if job["state"] == "cancelled":
        return INTERRUPTED
    if job["state"] != "finished":
        return OUR_FAILURE
    verdict = job.get("verdict")
    if verdict == "signalled":
        return 128 + int(job.get("signal") or 0)
    if verdict == "error":
        return int(job.get("exit_code") or 1)
    return VERDICTS.get(str(verdict), OUR_FAILURE)


def of_refusal(status: int) -> int:
    """The exit code for a problem document."""
    if status in (401, 403):
        return NO_PERMISSION
    return USAGE if 400 <= status < 500 and status != 429 else UNREACHABLE
