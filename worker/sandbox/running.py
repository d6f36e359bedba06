"""One run of a program in a cell: what is sent, what is heard, and when the host ends it."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from domain.files import FileLimits, LeftOut
from domain.limits import Limits
from worker.sandbox import kept
from worker.sandbox.collecting import Collecting, Sink
from worker.sandbox.frames import FILE_CHUNK, Kind, collect_frame, file_frame, job_frame
from worker.sandbox.stream import CellLost, NotBegun, Stream, checked_number, checked_object

#: Seconds that a job's end may take to arrive after its time limit, before the container is killed for it.
#: The runner stops nothing by time itself; this only lets a program that ended in time be heard.
GRACE_S = 0.02

#: Seconds past that in which frames that keep coming are still read, to find the end among them.
OVERRUN_S = 1.0

#: Bytes beyond `output_bytes` that may arrive: what the runner reads in one turn and what is in the pipes when
#: the program is killed for it.
OVERSHOOT = 3 << 20

#: Seconds by which a quota may be ahead of the clock: the kernel grants it in slices, on each processor.
SLACK_S = 0.2

#: Takes `stdout` or `stderr` and the bytes, as they come.
OnOutput = Callable[[str, bytes], None]


#: Seconds past the runner's own time for collecting files, before the container is killed for it.
COLLECT_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Input:
    """A file for the work folder: its name there, safe by `domain.files.wrong_name`, and its content."""

    name: str
    read: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    `compiled`: its language has a compiler, which runs first, under a time limit of its own. `collect`: what
    may be brought back of the files that it leaves; None for nothing.
    """

    code: bytes
    file: str
    limits: Limits
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    compiled: bool = False
    files: Sequence[Input] = ()
    collect: FileLimits | None = None


@dataclass(slots=True)
class Ending:
    """The facts of a program's end, as far as they are known. Times in seconds, sizes in bytes.

    `status` is the wait status of the main process; None when it did not end by itself. With `compiling` that
    was the compiler, and the program never began.
    """

    status: int | None = None
    timed_out: bool = False
    cpu_limit: bool = False  # used up its CPU time; killed from outside, unless it ended meanwhile
    killed: bool = False  # by us, for a reason of our own: cancelled, or the lease was lost
    output_limit: bool = False
    oom_kills: int = 0
    container_oom: bool = False  # the engine saw the container's memory end
    disk_full: bool = False  # nothing more fitted in its folders when it had ended
    stdout: bytes = b""  # what is kept; see kept.py
    stderr: bytes = b""
    stdout_bytes: int = 0  # what was written
    stderr_bytes: int = 0
    stdout_head: int | None = None  # bytes kept from before the gap; None where nothing is left out
    stderr_head: int | None = None
    wall_s: float = 0.0
    cpu_s: float | None = None
    peak_bytes: int | None = None
    compiling: bool = False
    compile_s: float | None = None  # of wall time; None where nothing was compiled, or not to the end
    level: int = 0  # of the helper it was forked from, how much was imported; 1: or an interpreter that was up
    left_out: dict[str, LeftOut] = field(default_factory=dict)  # files that were not collected
    left_out_more: int = 0  # how many more there are
    lost: bool = False  # the cell failed while files were collected, after the program's end


class Container(Protocol):
    """What a run needs of the container around it."""

    def stop(self) -> None:
        """Kill it, for its time is up."""

    def explain(self, ending: Ending) -> bool:
        """It ended: note in `ending` why, if that is known; False if not."""

    def preload_ended(self, payload: bytes) -> None:
        """A late word about preloading."""


class Run:
    """The conversation. Made for one program, used once, by one thread."""

    def __init__(
        self,
        stream: Stream,
        container: Container,
        program: Program,
        on_output: OnOutput | None,
        sink: Sink | None = None,
    ) -> None:
        self._stream = stream
        self._container = container
        self._program = program
        self._on_output = on_output
        self._sink = sink
        self._ending = Ending(compiling=program.compiled)
        self._output = {Kind.STDOUT: bytearray(), Kind.STDERR: bytearray()}
        self._room = program.limits.output_bytes + OVERSHOOT
        self._began = 0.0

    def begin(self, *, reset: bool) -> None:
        """Send the files and the program; its time begins when the files are sent.

        Raises:
            NotBegun: the runner did not get all of it, so it does not run the program.
        """
        program = self._program
        try:
            for file in program.files:
                self._send_file(file)
            head = collect_frame(program.collect) if program.collect is not None else b""
            self._began = time.monotonic()
            self._stream.send(
                head
                + job_frame(
                    code=program.code,
                    stdin=program.stdin,
                    file=program.file,
                    args=program.args,
                    env=program.env,
                    output_bytes=program.limits.output_bytes,
                    reset=reset,
                ),
            )
        except CellLost as e:
            raise NotBegun(str(e)) from e

    def _send_file(self, file: Input) -> None:
        name = file.name
        for piece in file.read():
            for at in range(0, len(piece), FILE_CHUNK):
                self._stream.send(file_frame(name, piece[at : at + FILE_CHUNK]))
                name = ""
        if name:
            self._stream.send(file_frame(name, b""))

    def follow(self) -> tuple[Ending, bool]:
        """Hear it to its end, or end it: the facts, and whether the runner itself told the end.

        Raises:
            CellLost: the sandbox failed; nothing is known of the program.
        """
        limits = self._program.limits
        first_s = limits.compile_s if self._program.compiled else limits.timeout_s
        facts = self._hear(self._began + first_s + GRACE_S)
        ending, output = self._ending, self._output
        ending.wall_s = time.monotonic() - self._began
        ending.stdout_bytes, ending.stderr_bytes = len(output[Kind.STDOUT]), len(output[Kind.STDERR])
        if facts is not None:
            self._take_exit(facts)
            if self._program.collect is not None:
                self._collect(self._program.collect)
        self._keep()
        return ending, facts is not None and not ending.lost

    def _keep(self) -> None:
        """Keep all of the output, or head and tail of each stream where it is more than was allowed."""
        ending, most = self._ending, self._program.limits.output_bytes
        stdout, stderr = self._output[Kind.STDOUT], self._output[Kind.STDERR]
        if len(stdout) + len(stderr) <= most:
            ending.stdout, ending.stderr = bytes(stdout), bytes(stderr)
            return
        ending.output_limit = True
        for_stdout, for_stderr = kept.shares(len(stdout), len(stderr), most)
        ending.stdout, ending.stdout_head = kept.cut(stdout, for_stdout)
        ending.stderr, ending.stderr_head = kept.cut(stderr, for_stderr)

    def _hear(self, deadline: float) -> dict[str, Any] | None:
        """Read until the job's end; None if we ended it."""
        while True:
            try:
                frame = self._stream.next(deadline - time.monotonic())
            except CellLost:
                if self._container.explain(self._ending):
                    return None
                raise
            if frame is None or (frame[0] is not Kind.EXIT and time.monotonic() > deadline + OVERRUN_S):
                self._ending.timed_out = True
                self._container.stop()
                return None
            kind, payload = frame
            if kind in self._output:
                self._take_output(kind, payload)
            elif kind is Kind.STAT:
                if self._take_stat(checked_object(payload)):
                    self._container.stop()
                    return None
            elif kind is Kind.PHASE and self._ending.compiling and self._ending.compile_s is None:
                deadline = self._compiled(checked_object(payload), deadline)
            elif kind is Kind.EXIT:
                return checked_object(payload)
            elif kind is Kind.PRELOADED:
                self._container.preload_ended(payload)
            else:
                raise CellLost(f"the runner broke the protocol: {kind} during a job")

    def _compiled(self, facts: dict[str, Any], deadline: float) -> float:
        """The compiler ended: if well, the program begins now and has its own time. Gives the deadline."""
        ending, now = self._ending, time.monotonic()
        ending.compile_s = min(checked_number(facts, "wall_s", 1e9), now - self._began)
        if facts.get("status") != 0:
            return deadline  # what it said follows, and the end
        ending.compiling = False
        ending.cpu_s = ending.peak_bytes = None
        self._began = now
        return now + self._program.limits.timeout_s + GRACE_S

    def _collect(self, limits: FileLimits) -> None:
        """Hear what files the program left. That the cell fails meanwhile changes nothing of how it ended."""
        collecting = Collecting(limits, self._sink)
        deadline = time.monotonic() + limits.collect_s + COLLECT_GRACE_S
        try:
            while not collecting.done:
                try:
                    frame = self._stream.next(deadline - time.monotonic())
                except CellLost:
                    frame = None
                if frame is None or time.monotonic() > deadline:
                    self._lose(collecting)
                elif frame[0] is Kind.ARTIFACT:
                    collecting.take(frame[1])
                elif frame[0] is Kind.COLLECTED:
                    collecting.end(frame[1])
                elif frame[0] is Kind.PRELOADED:
                    self._container.preload_ended(frame[1])
                else:
                    raise CellLost(f"the runner broke the protocol: {frame[0]} while files were collected")
        finally:
            collecting.close()
        self._ending.left_out, self._ending.left_out_more = collecting.left_out, collecting.more

    def _lose(self, collecting: Collecting) -> None:
        now = Ending()
        self._container.explain(now)
        self._ending.killed = now.killed
        self._ending.lost = True
        collecting.fail()
        self._container.stop()

    def _take_output(self, kind: Kind, payload: bytes) -> None:
        self._room -= len(payload)
        if self._room < 0:
            raise CellLost("the runner sent more output than was allowed")
        self._output[kind] += payload
        if self._on_output is not None:
            self._on_output("stdout" if kind is Kind.STDOUT else "stderr", payload)

    def _take_stat(self, facts: dict[str, Any]) -> bool:
        """Take usage so far; whether the CPU time is used up."""
        ending = self._ending
        if facts.get("cpu_s") is not None:
            self._take_cpu(checked_number(facts, "cpu_s", 1e9))
        if facts.get("memory") is not None:
            ending.peak_bytes = max(ending.peak_bytes or 0, int(checked_number(facts, "memory", 1 << 50)))
        return ending.cpu_limit

    def _take_cpu(self, told_s: float) -> None:
        """Believe no more than the quota can have given since our own clock started.

        gVisor counts a process as running that waits for its turn, so that many of them add up to more.
        """
        limits = self._program.limits
        cpu_s = min(told_s, (time.monotonic() - self._began + SLACK_S) * limits.cpus)
        self._ending.cpu_s = cpu_s
        # The compiler has a limit of its own, of wall time.
        counts = limits.cpu_s is not None and not self._ending.compiling
        self._ending.cpu_limit = counts and cpu_s >= (limits.cpu_s or 0)

    def _take_exit(self, facts: dict[str, Any]) -> None:
        ending = self._ending
        if facts.get("status") is not None:
            ending.status = int(checked_number(facts, "status", 0xFFFF))
        ending.wall_s = min(ending.wall_s, checked_number(facts, "wall_s", 1e9))
        self._take_cpu(checked_number(facts, "cpu_s", 1e9))
        if facts.get("peak_bytes") is not None:  # else the highest of the samples
            ending.peak_bytes = int(checked_number(facts, "peak_bytes", 1 << 50))
        ending.oom_kills = int(checked_number(facts, "oom_kills", 1 << 31))
        ending.output_limit = facts.get("output_limit") is True
        ending.disk_full = facts.get("disk_full") is True
        if ending.status is None:
            if not ending.output_limit:
                raise CellLost("the runner broke the protocol: an end without a status")
        elif not (os.WIFEXITED(ending.status) or os.WIFSIGNALED(ending.status)):
            raise CellLost(f"the runner broke the protocol: {ending.status} is not the status of an end")
        # Where a stream was cut off for good, its end was counted inside and never sent.
        ending.stdout_bytes = max(ending.stdout_bytes, int(checked_number(facts, "stdout_bytes", 1 << 50)))
        ending.stderr_bytes = max(ending.stderr_bytes, int(checked_number(facts, "stderr_bytes", 1 << 50)))
        ending.level = int(checked_number(facts, "level", 100))
