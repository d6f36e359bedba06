"""The execution cache: the result of a program that ran before with everything the same. Opt-in per job.

Only runs that ended well are kept, and only for the caller whose they were. Whether a program gives the same
result each time is for the caller to know: who asks for the cache says so.
"""

import logging
from collections.abc import Mapping
from typing import Any

from domain.caching import execution_key
from domain.states import Verdict
from worker.claimed import ClaimedJob
from worker.task_store import TaskStore

log = logging.getLogger(__name__)

#: What is kept of an attempt beside its outputs.
_KEPT = ("verdict", "exit_code", "stdout_bytes", "stderr_bytes", "wall_s", "compile_s", "cpu_s",
         "peak_memory_bytes", "oom_kills", "runtime", "check_passed")  # fmt: skip

#: Results larger than this are not kept, in bytes.
MOST_BYTES = 2**20


class Memory:
    """Recalls and keeps results."""

    def __init__(self, tasks: TaskStore) -> None:
        self._tasks = tasks

    def recall(self, job: ClaimedJob, file: str, digest: str | None) -> dict[str, Any] | None:
        """The attempt that running the job's program would give; None where it has to be run."""
        if digest is None:
            return None
        row = self._tasks.cached_result(_key(job, file, digest), job.caller_id)
        if row is None:
            return None
        result = {name: row.result.get(name) for name in _KEPT}
        return {**result, "stdout": bytes(row.stdout), "stderr": bytes(row.stderr), "cached": True}

    def keep(self, job: ClaimedJob, file: str, attempt: Mapping[str, Any]) -> None:
        """Keep the result of a run, if it is one to keep."""
        digest = attempt.get("image_digest")
        if digest is None or not _worth_keeping(attempt):
            return
        self._tasks.keep_result(
            _key(job, file, digest),
            job,
            result={name: attempt.get(name) for name in _KEPT},
            stdout=attempt["stdout"],
            stderr=attempt["stderr"],
        )


def _worth_keeping(attempt: Mapping[str, Any]) -> bool:
    complete = all(len(attempt[name]) == attempt[f"{name}_bytes"] for name in ("stdout", "stderr"))
    return (
        attempt["verdict"] == Verdict.OK
        and attempt.get("check_passed") is not False
        and not attempt.get("oom_kills")
        and "kept" not in attempt  # only outputs can be given again, not what it left
        and complete
        and len(attempt["stdout"]) + len(attempt["stderr"]) <= MOST_BYTES
    )


def _key(job: ClaimedJob, file: str, digest: str) -> bytes:
    code = job.code or ""
    check: Mapping[str, str] = {}
    if job.task is not None:
        code = "" if job.task.draft is None else job.task.draft.code
        check = job.task.check
    return execution_key(
        caller=job.caller_id,
        code=code,
        language=job.language,
        file=file,
        stdin=job.stdin,
        args=job.args,
        env=job.env,
        profile=job.profile,
        limits=job.limits,
        runtime=job.runtime,
        image_digest=digest,
        check=check,
        files={given["name"]: given["sha256"] for given in job.files},
    )
