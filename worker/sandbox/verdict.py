"""From the facts of an ending to a verdict. Pure; the order of the questions is the definition.

docs/verdicts.md tells users the same.
"""

import os
import signal as signals
from dataclasses import dataclass, replace

from domain.states import Verdict
from worker.sandbox.running import Ending

#: Reasons of a `timeout`: which clock.
WALL = "wall"
CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, how the main process ended where it ended by itself, and what else is known."""

    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None


#: What is said of a verdict that the compiler got, where the program never began.
_COMPILER = {
    Verdict.TIMEOUT: "the compiler did not end within compile_s",
    Verdict.OUT_OF_MEMORY: "the compiler used up the memory",
}


def decide(ending: Ending) -> Decision:
    """The verdict on a program.

    - Our clock passed the limit and we killed the container: `timeout`, whatever else is true.
    - It used up its CPU time, whether it was killed for that or ended before we could: `timeout`.
    - It wrote more than it may: `output_limit`.
    - The kernel killed one of its processes for memory (its counter moved, or the engine says that the
      container died of it) and the program did not end well: `out_of_memory`. A program that survives the loss
      of a child and exits with 0 is `ok`, with a note.
    - It did not end well and its folders were full then, or the kernel ended it for the size of a file:
      `disk_limit`.
    - A signal ended it: `signalled`; this is told by the wait status, never guessed from an exit code of 137.
    - Else its exit code decides between `ok` and `error`.

    Where the compiler did not end well the program never began. Time and memory are told apart, with a reason;
    all else that a compiler can end with is `compile_error`.
    """
    decision = _judge(ending)
    if not ending.compiling:
        return decision
    verdict = decision.verdict if decision.verdict in _COMPILER else Verdict.COMPILE_ERROR
    return replace(decision, verdict=verdict, reason=_COMPILER.get(verdict))


def _judge(ending: Ending) -> Decision:
    if ending.timed_out:
        return Decision(Verdict.TIMEOUT, reason=WALL)
    exit_code = signal = None
    if ending.status is not None:
        if os.WIFSIGNALED(ending.status):
            signal = os.WTERMSIG(ending.status)
        else:
            exit_code = os.waitstatus_to_exitcode(ending.status)
    if ending.cpu_limit:
        return Decision(Verdict.TIMEOUT, exit_code, signal, CPU)
    if ending.output_limit:
        return Decision(Verdict.OUTPUT_LIMIT, exit_code, signal)
    if (ending.oom_kills or ending.container_oom) and exit_code != 0:
        return Decision(Verdict.OUT_OF_MEMORY, exit_code, signal)
    if exit_code != 0 and (ending.disk_full or signal == signals.SIGXFSZ):
        return Decision(Verdict.DISK_LIMIT, exit_code, signal)
    if signal is not None:
        return Decision(Verdict.SIGNALLED, None, signal)
    if exit_code is None:
        raise ValueError("an ending without a status needs another reason")
    if exit_code:
        return Decision(Verdict.ERROR, exit_code)
    return Decision(Verdict.OK, 0, reason=_note(ending))


def _note(ending: Ending) -> str | None:
    """What the caller of a program that ended well should know all the same."""
    if not ending.oom_kills:
        return None
    which = "one of its processes was" if ending.oom_kills == 1 else f"{ending.oom_kills} of its processes were"
    return f"{which} killed for memory; the program went on and exited with 0"
