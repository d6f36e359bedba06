"""One container and the conversation with its runner."""

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from domain.limits import Limits
from worker.sandbox import spec as specs
from worker.sandbox.engine import Attachment, Engine, EngineError
from worker.sandbox.frames import (
    PRELOAD_FRAME,
    PROTOCOL,
    Demultiplexer,
    Kind,
    ProtocolError,
    job_frame,
    parse_object,
)
from worker.sandbox.spec import CellSpec

#: Seconds from start to the runner's first word, and for a reset: far above what either takes.
START_S = 20.0
RESET_S = 5.0

#: Seconds that a job's end may take to arrive after its time limit, before the container is killed for it.
#: The runner stops nothing by time itself; this only lets a program that ended in time be heard.
GRACE_S = 0.02

#: Seconds past that in which frames that keep coming are still read, to find the end among them.
OVERRUN_S = 1.0

_RECEIVE = 1 << 18

#: Takes `stdout` or `stderr` and the bytes, as they come.
OnOutput = Callable[[str, bytes], None]


class CellLost(Exception):
    """The container or its runner failed, not the program in it."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run."""

    code: bytes
    file: str
    limits: Limits
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""


@dataclass(slots=True)
class Ending:
    """The facts of a program's end, as far as they are known. Times in seconds, sizes in bytes.

    `status` is the wait status of the main process; None when it did not end by itself.
    """

    status: int | None = None
    timed_out: bool = False
    killed: bool = False  # by us, for a reason of our own: cancelled, or the lease was lost
    output_limit: bool = False
    oom_kills: int = 0
    container_oom: bool = False  # the engine saw the container's memory end
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    wall_s: float = 0.0
    cpu_s: float | None = None
    peak_bytes: int | None = None
    level: int = 0  # of the helper it was forked from: how much was imported


def _number(facts: dict[str, Any], name: str, most: float) -> float:
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise CellLost(f"the runner broke the protocol: {name}={value!r}")
    return value


class Cell:
    """A started container. Used by one thread at a time; `kill` may come from any."""

    def __init__(self, engine: Engine, spec: CellSpec) -> None:
        self.spec = spec
        self.id = ""
        self.jobs = 0
        self.caller: str | None = None  # whose code ran here
        self.preloaded = False
        self.preloading = False
        self.preload_tried = False
        self.resetting = False  # a reset is under way; `wait_clean` tells how it ended
        self.used_at = time.monotonic()
        self._engine = engine
        self._limits = spec.limits
        self._overhead_mb = spec.overhead_mb  # as set in the engine
        self._needs_mb = spec.overhead_mb  # as it should be
        self._setting = threading.Lock()
        self._attachment: Attachment | None = None
        self._socket: socket.socket | None = None
        self._demux = Demultiplexer()
        self._frames: deque[tuple[Kind, bytes]] = deque()
        self._killed = False

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Create and start the container and wait until its runner is ready.

        Raises:
            EngineError: the engine failed.
            CellLost: the runner did not come up.
        """
        self.id = self._engine.create(specs.container_config(self.spec))
        self._attachment = self._engine.attach(self.id)
        self._socket = self._attachment.socket
        self._socket.setblocking(False)
        self._engine.start(self.id)
        facts = self._expect(Kind.UP, START_S)
        if facts.get("protocol") != PROTOCOL:
            raise CellLost(f"the runner speaks protocol {facts.get('protocol')!r}, not {PROTOCOL}")

    def kill(self) -> None:
        """Kill the container now; whatever runs in it ends, and `run` returns with `killed`."""
        self._killed = True
        self._engine.kill(self.id)

    def destroy(self) -> None:
        """Hang up and remove the container. May be called twice."""
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = self._socket = None
        if self.id:
            self._engine.remove(self.id)

    def alive(self) -> bool:
        """Whether an idle cell is still there: its stream is open and has nothing unexpected to say."""
        if self._socket is None:
            return False
        try:
            while (frame := self._next(0)) is not None:
                if frame[0] is not Kind.PRELOADED:
                    return False
                self._preload_ended(frame[1])
        except (CellLost, EngineError):
            return False
        return True

    # --- preloading -------------------------------------------------------------------------------

    def preload(self) -> None:
        """Ask the runner to import the heavy packages; `alive` notices when it is done.

        What they will hold is not the user's memory: the limit is raised for it first, and `settle` brings it
        to what they were seen to hold.
        """
        self.preload_tried = self.preloading = True
        self._needs_mb = specs.RUNNER_MB + specs.PRELOAD_MB
        self.settle()
        self._send(PRELOAD_FRAME)

    def _preload_ended(self, payload: bytes) -> None:
        facts = self._object(payload)
        self.preloading = False
        self.preloaded = not facts.get("failed")
        held = int(_number(facts, "held", 1 << 40)) if facts.get("held") is not None else 0
        self._needs_mb = specs.RUNNER_MB + -(-held // specs.MB)

    def settle(self, limits: Limits | None = None) -> None:
        """Bring the container's limits to `limits` (or leave the user's part) plus what we ourselves need.

        Raises:
            EngineError: the engine did not do it.
        """
        with self._setting:
            wanted = limits or self._limits
            now = (self._limits.memory_mb, self._limits.cpus, self._overhead_mb)
            if (wanted.memory_mb, wanted.cpus, self._needs_mb) != now:
                self._engine.update(self.id, specs.resources(wanted, self._needs_mb))
                self._limits, self._overhead_mb = wanted, self._needs_mb

    # --- running ----------------------------------------------------------------------------------

    def run(
        self,
        program: Program,
        *,
        reset: bool = False,
        on_start: Callable[[], None] | None = None,
        on_output: OnOutput | None = None,
    ) -> Ending:
        """Run a program to its end, or kill the container at the time limit.

        `on_start` is called while the program begins.

        With `reset` the runner makes the cell ready for another job of the same caller; `wait_clean` tells
        whether it could.

        Raises:
            CellLost: the sandbox failed; nothing is known of the program.
        """
        limits = program.limits
        self.jobs += 1
        try:
            self.settle(limits)
        except EngineError as e:
            raise CellLost(f"the engine did not set the limits: {e}") from e
        ending = Ending()
        output = {Kind.STDOUT: bytearray(), Kind.STDERR: bytearray()}
        began = time.monotonic()
        self._send(
            job_frame(
                code=program.code,
                stdin=program.stdin,
                file=program.file,
                args=program.args,
                env=program.env,
                output_bytes=limits.output_bytes,
                reset=reset,
            ),
        )
        if on_start is not None:
            on_start()
        facts = self._follow(ending, output, began + limits.timeout_s + GRACE_S, limits, on_output)
        ending.wall_s = time.monotonic() - began
        ending.stdout, ending.stderr = bytes(output[Kind.STDOUT]), bytes(output[Kind.STDERR])
        ending.stdout_bytes, ending.stderr_bytes = len(ending.stdout), len(ending.stderr)
        if facts is not None:
            self._take_exit(ending, facts)
            self.resetting = reset
        self.used_at = time.monotonic()
        return ending

    def _follow(
        self,
        ending: Ending,
        output: dict[Kind, bytearray],
        deadline: float,
        limits: Limits,
        on_output: OnOutput | None,
    ) -> dict[str, Any] | None:
        """Read until the job's end; None if we ended it."""
        room = limits.output_bytes
        while True:
            try:
                frame = self._next(deadline - time.monotonic())
            except CellLost:
                ending.killed = self._killed
                ending.container_oom = not self._killed and self._died_of_memory()
                if ending.killed or ending.container_oom:
                    return None
                raise
            if frame is None or (frame[0] is not Kind.EXIT and time.monotonic() > deadline + OVERRUN_S):
                ending.timed_out = True
                with suppress(EngineError):  # the verdict stands, and whoever destroys the cell tries again
                    self._engine.kill(self.id)
                return None
            kind, payload = frame
            if kind in output:
                room -= len(payload)
                if room < 0:
                    raise CellLost("the runner sent more output than was allowed")
                output[kind] += payload
                if on_output is not None:
                    on_output("stdout" if kind is Kind.STDOUT else "stderr", payload)
            elif kind is Kind.STAT:
                self._take_stat(ending, self._object(payload))
            elif kind is Kind.EXIT:
                return self._object(payload)
            elif kind is Kind.PRELOADED:
                self._preload_ended(payload)
            else:
                raise CellLost(f"the runner broke the protocol: {kind} during a job")

    def _take_stat(self, ending: Ending, facts: dict[str, Any]) -> None:
        if facts.get("cpu_s") is not None:
            ending.cpu_s = _number(facts, "cpu_s", 1e9)
        if facts.get("memory") is not None:
            ending.peak_bytes = max(ending.peak_bytes or 0, int(_number(facts, "memory", 1 << 50)))

    def _take_exit(self, ending: Ending, facts: dict[str, Any]) -> None:
        if facts.get("status") is not None:
            ending.status = int(_number(facts, "status", 0xFFFF))
        ending.wall_s = min(ending.wall_s, _number(facts, "wall_s", 1e9))
        ending.cpu_s = _number(facts, "cpu_s", 1e9)
        if facts.get("peak_bytes") is not None:
            ending.peak_bytes = int(_number(facts, "peak_bytes", 1 << 50))
        ending.oom_kills = int(_number(facts, "oom_kills", 1 << 31))
        ending.output_limit = facts.get("output_limit") is True
        if ending.status is None:
            if not ending.output_limit:
                raise CellLost("the runner broke the protocol: an end without a status")
        elif not (os.WIFEXITED(ending.status) or os.WIFSIGNALED(ending.status)):
            raise CellLost(f"the runner broke the protocol: {ending.status} is not the status of an end")
        # What the program wrote beyond its limit was counted inside, and never sent.
        ending.stdout_bytes = max(ending.stdout_bytes, int(_number(facts, "stdout_bytes", 1 << 50)))
        ending.stderr_bytes = max(ending.stderr_bytes, int(_number(facts, "stderr_bytes", 1 << 50)))
        ending.level = int(_number(facts, "level", 100))

    def _died_of_memory(self) -> bool:
        """Whether the engine says that the container ended because its memory did."""
        try:
            self._engine.wait(self.id, 5)
            return self._engine.inspect(self.id)["State"]["OOMKilled"] is True
        except EngineError:
            return False

    def wait_clean(self) -> str | None:
        """After a run with `reset`: None if the cell is as good as new, else why not. May be asked again."""
        if not self.resetting:
            return None
        self.resetting = False
        try:
            facts = self._expect(Kind.CLEAN, RESET_S)
        except CellLost as e:
            return str(e)
        return None if facts.get("clean") is True else str(facts.get("left"))[:300]

    # --- the stream -------------------------------------------------------------------------------

    def _readable(self, timeout_s: float) -> bool:
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def _receive(self) -> None:
        """Take in what is there to read."""
        if self._socket is None:
            raise CellLost("the cell is closed")
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as e:
            raise CellLost(f"the stream to the container broke: {e}") from e
        if not data:
            said = self._demux.stderr.decode(errors="replace")[-500:]
            raise CellLost(f"the container ended{': ' + said if said else ''}")
        try:
            self._frames.extend(self._demux.feed(data))
        except ProtocolError as e:
            raise CellLost(f"the runner broke the protocol: {e}") from e

    def _next(self, timeout_s: float) -> tuple[Kind, bytes] | None:
        """The next frame; None when none came in time."""
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            if not self._readable(deadline - time.monotonic()):
                return None
            self._receive()
        return self._frames.popleft()

    @staticmethod
    def _object(payload: bytes) -> dict[str, Any]:
        try:
            return parse_object(payload)
        except ProtocolError as e:
            raise CellLost(f"the runner broke the protocol: {e}") from e

    def _send(self, frame: bytes) -> None:
        rest = memoryview(frame)
        deadline = time.monotonic() + START_S
        while rest:
            if self._socket is None:
                raise CellLost("the cell is closed")
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._socket, select.POLLOUT)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise CellLost("the runner does not read") from None
            except OSError as e:
                raise CellLost(f"the stream to the container broke: {e}") from e

    def _expect(self, wanted: Kind, timeout_s: float) -> dict[str, Any]:
        """Wait for one frame of a kind; a late PRELOADED is taken on the way."""
        deadline = time.monotonic() + timeout_s
        while True:
            frame = self._next(deadline - time.monotonic())
            if frame is None:
                raise CellLost(f"the runner did not say {wanted.name} within {timeout_s:g} s")
            if frame[0] is wanted:
                return self._object(frame[1])
            if frame[0] is not Kind.PRELOADED:
                raise CellLost(f"the runner broke the protocol: {frame[0]} instead of {wanted}")
            self._preload_ended(frame[1])
