"""From facts to verdicts."""

import os
import signal
from dataclasses import replace

import pytest

from domain.states import Verdict
from worker.sandbox.running import Ending
from worker.sandbox.verdict import Decision, decide


def exited(code: int) -> int:
    """The wait status of an exit."""
    return code << 8


KILLED, CRASHED, DUMPED = int(signal.SIGKILL), int(signal.SIGSEGV), signal.SIGABRT | 0x80


@pytest.mark.parametrize(
    ("ending", "decision"),
    [
        (Ending(status=exited(0)), Decision(Verdict.OK, 0)),
        (Ending(status=exited(1)), Decision(Verdict.ERROR, 1)),
        (Ending(status=exited(255)), Decision(Verdict.ERROR, 255)),
        # An exit code is never taken for a signal, nor the reverse.
        (Ending(status=exited(137)), Decision(Verdict.ERROR, 137)),
        (Ending(status=exited(139)), Decision(Verdict.ERROR, 139)),
        (Ending(status=KILLED), Decision(Verdict.SIGNALLED, None, 9)),
        (Ending(status=CRASHED), Decision(Verdict.SIGNALLED, None, 11)),
        (Ending(status=DUMPED), Decision(Verdict.SIGNALLED, None, 6)),
        # Memory: only where the kernel says so, and the program did not get over it.
        (Ending(status=KILLED, oom_kills=1), Decision(Verdict.OUT_OF_MEMORY, None, 9)),
        (Ending(status=exited(1), oom_kills=2), Decision(Verdict.OUT_OF_MEMORY, 1)),
        (
            Ending(status=exited(0), oom_kills=1),
            Decision(
                Verdict.OK,
                0,
                reason="one of its processes was killed for memory; the program went on and exited with 0",
            ),
        ),
        (Ending(container_oom=True), Decision(Verdict.OUT_OF_MEMORY)),
        # Output.
        (Ending(status=KILLED, output_limit=True), Decision(Verdict.OUTPUT_LIMIT, None, 9)),
        (Ending(output_limit=True), Decision(Verdict.OUTPUT_LIMIT)),
        (Ending(status=exited(0), output_limit=True), Decision(Verdict.OUTPUT_LIMIT, 0)),
        (Ending(status=KILLED, output_limit=True, oom_kills=1), Decision(Verdict.OUTPUT_LIMIT, None, 9)),
        # Disk: full when it ended, and it did not end well; or the size of a file.
        (Ending(status=exited(1), disk_full=True), Decision(Verdict.DISK_LIMIT, 1)),
        (Ending(status=int(signal.SIGBUS), disk_full=True), Decision(Verdict.DISK_LIMIT, None, 7)),
        (Ending(status=int(signal.SIGXFSZ)), Decision(Verdict.DISK_LIMIT, None, 25)),
        (Ending(status=exited(0), disk_full=True), Decision(Verdict.OK, 0)),
        (Ending(status=KILLED, disk_full=True, oom_kills=1), Decision(Verdict.OUT_OF_MEMORY, None, 9)),
        (Ending(status=KILLED, disk_full=True, output_limit=True), Decision(Verdict.OUTPUT_LIMIT, None, 9)),
        # CPU time: killed for it, or ended just before.
        (Ending(cpu_limit=True), Decision(Verdict.TIMEOUT, reason="cpu")),
        (Ending(cpu_limit=True, status=exited(0)), Decision(Verdict.TIMEOUT, 0, reason="cpu")),
        (Ending(cpu_limit=True, output_limit=True), Decision(Verdict.TIMEOUT, reason="cpu")),
        # Our clock comes first.
        (Ending(timed_out=True), Decision(Verdict.TIMEOUT, reason="wall")),
        (Ending(timed_out=True, status=exited(0)), Decision(Verdict.TIMEOUT, reason="wall")),
        (Ending(timed_out=True, oom_kills=3, container_oom=True), Decision(Verdict.TIMEOUT, reason="wall")),
        (Ending(timed_out=True, output_limit=True), Decision(Verdict.TIMEOUT, reason="wall")),
    ],
)
def test_verdicts(ending: Ending, decision: Decision) -> None:
    assert decide(ending) == decision


def test_every_wait_status_of_an_ended_process_has_one_verdict() -> None:
    for status in range(0x10000):
        if not (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            continue
        decision = decide(Ending(status=status))
        assert (decision.exit_code is None) != (decision.signal is None)
        assert (decision.verdict is Verdict.OK) == (decision.exit_code == 0)


def test_what_a_program_writes_decides_nothing() -> None:
    ending = Ending(status=exited(0))
    loud = replace(ending, stdout=b"Killed\nMemoryError\n", stderr=b"timeout", stdout_bytes=1 << 40)
    assert decide(loud) == decide(ending)


def test_an_end_without_a_reason_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="without a status"):
        decide(Ending())
