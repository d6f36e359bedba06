"""States a job can be in, the moves between them, and the verdicts on a program.

A state is about us: where the job stands. A verdict is about the user's program: what happened to it,
decided from outside. A program that crashes gives a `finished` job with the verdict `error`.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # stored; the next step has not been claimed
    GENERATING = "generating"  # a worker holds the lease and asks a model for code
    RUNNING = "running"  # a worker holds the lease and runs the code in a sandbox
    FINISHED = "finished"  # ended with a verdict on the program
    CANCELLED = "cancelled"  # the caller ended it
    BROKEN = "broken"  # we failed, after bounded retries; `reason` says how


class Verdict(StrEnum):
    """What happened to the program. docs/verdicts.md says from which facts each is decided."""

    OK = "ok"  # exited with 0
    ERROR = "error"  # exited with another code
    SIGNALLED = "signalled"  # ended by a signal that we did not send
    TIMEOUT = "timeout"  # still running at its time limit; killed from outside
    OUT_OF_MEMORY = "out_of_memory"  # failed after the kernel killed one of its processes for memory
    OUTPUT_LIMIT = "output_limit"  # wrote more than `output_bytes`; killed
    DISK_LIMIT = "disk_limit"  # filled its work folder and failed for it
    COMPILE_ERROR = "compile_error"  # did not compile
    CHECK_FAILED = "check_failed"  # ran, but the task's check found the result wrong
    SANDBOX_CRASH = "sandbox_crash"  # took its sandbox down with it, twice
    NO_CODE = "no_code"  # of a task for which no model gave a program: nothing ever ran


class Outcome(StrEnum):
    """How a task came out: what its verdict alone cannot tell."""

    PASSED = "passed"  # the check passed
    RAN = "ran"  # there was no check; the last program ended well
    FAILED = "failed"  # neither


class Priority(StrEnum):
    """Which jobs go first."""

    INTERACTIVE = "interactive"
    BATCH = "batch"  # only while nothing interactive waits


class Runtime(StrEnum):
    """The tiers: what a sandbox is isolated by. docs/tiers.md says what differs. None stands in for another."""

    RUNC = "runc"  # the host's kernel, behind namespaces, cgroups and our seccomp profile
    RUNSC = "runsc"  # gVisor: a kernel of its own, in user space


FINAL_STATES = frozenset({State.FINISHED, State.CANCELLED, State.BROKEN})
LEASED_STATES = frozenset({State.GENERATING, State.RUNNING})

#: Every move that is allowed. The database refuses all others (migration 0001 holds the same table, and a
#: test compares the two). Staying in a state is always allowed; leaving a final one never is.
MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.GENERATING, State.RUNNING, State.CANCELLED, State.BROKEN}),
    State.GENERATING: frozenset(
        {State.QUEUED, State.RUNNING, State.FINISHED, State.CANCELLED, State.BROKEN},
    ),
    State.RUNNING: frozenset(
        {State.QUEUED, State.GENERATING, State.FINISHED, State.CANCELLED, State.BROKEN},
    ),
    State.FINISHED: frozenset(),
    State.CANCELLED: frozenset(),
    State.BROKEN: frozenset(),
}
