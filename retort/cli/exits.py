"""Exit codes of all commands. docs/client.md shows the table to users.

Of `run`, `ask` and what else shows the end of a job: a program's own exit code is passed on, so a number below
can also be the program's; `--json` tells which.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retort.client import Job

USAGE = 64  # the request was refused
NO_INPUT = 66  # a file cannot be read
UNREACHABLE = 69  # nobody answers at RETORT_URL, or not now
OUR_FAILURE = 70  # the job is broken: the service failed, not the program
NO_OUTPUT = 73  # a file cannot be written
NO_PERMISSION = 77  # no valid API key, or one that is not good for this
CONFIGURATION = 78  # the configuration file or a variable cannot be used
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


def of_job(job: "Job") -> int:
    """The exit code that tells how a job ended."""
    if job.state == "cancelled":
        return INTERRUPTED
    if job.state != "finished":
        return OUR_FAILURE
    if job.verdict == "signalled":
        return 128 + (job.signal or 0)
    if job.verdict == "error":
        return job.exit_code or 1
    return VERDICTS.get(str(job.verdict), OUR_FAILURE)


def of_refusal(status: int) -> int:
    """The exit code for a problem document."""
    if status in (401, 403):
        return NO_PERMISSION
    return USAGE if 400 <= status < 500 and status != 429 else UNREACHABLE
