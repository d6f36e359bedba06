"""One container and the conversation with its runner."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from domain.limits import Limits
from worker import faults
from worker.sandbox import spec as specs
from worker.sandbox.collecting import Sink
from worker.sandbox.engine import Engine, EngineError
from worker.sandbox.frames import PRELOAD_FRAME, PROTOCOL, Kind
from worker.sandbox.running import Ending, OnOutput, Program, Run
from worker.sandbox.spec import CellSpec
from worker.sandbox.stream import CellLost, NotBegun, Stream, checked_number, checked_object

#: Seconds from start to the runner's first word, and for a reset: far above what either takes.
START_S = 20.0
RESET_S = 5.0

#: Seconds for the engine to take note that a container ended; a busy one takes long to clean up after gVisor.
END_S = 15

#: Exit code of a container whose first process was killed, and seconds that its reason may come after its end.
KILLED = 128 + 9
OOM_S = 1.0


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
        self.granted_mb = 0  # the memory of the job that it is lent to
        self._engine = engine
        self._limits = spec.limits
        self._base_mb = specs.overhead_mb(spec)
        self._overhead_mb = self._base_mb  # as set in the engine
        self._needs_mb = self._base_mb  # as it should be
        self._setting = threading.Lock()
        self._stream = Stream()
        self._killed = False

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Create and start the container and wait until its runner is ready.

        Raises:
            EngineError: the engine failed.
            CellLost: the runner did not come up.
        """
        self.id = self._engine.create(specs.container_config(self.spec))
        faults.at("container_created")
        self._stream.open(self._engine.attach(self.id))
        self._engine.start(self.id)
        facts = self._expect(Kind.UP, START_S)
        if facts.get("protocol") != PROTOCOL:
            raise CellLost(f"the runner speaks protocol {facts.get('protocol')!r}, not {PROTOCOL}")

    @property
    def memory_mb(self) -> int:
        """What it may use now: what we ourselves need in it, and what its job was granted."""
        return self._needs_mb + self.granted_mb

    def kill(self) -> None:
        """Kill the container now; whatever runs in it ends, and `run` returns with `killed`."""
        self._killed = True
        self._engine.kill(self.id)

    def destroy(self) -> None:
        """Hang up and remove the container. May be called twice."""
        self._stream.close()
        if self.id:
            self._engine.remove(self.id)

    def alive(self) -> bool:
        """Whether an idle cell is still there: its stream is open and has nothing unexpected to say."""
        if self._stream.closed:
            return False
        try:
            while (frame := self._stream.next(0)) is not None:
                if frame[0] is not Kind.PRELOADED:
                    return False
                self.preload_ended(frame[1])
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
        self._needs_mb = self._base_mb + specs.PRELOAD_MB
        self.settle()
        self._stream.send(PRELOAD_FRAME)

    def preload_ended(self, payload: bytes) -> None:
        """The runner says that nothing is left to import, and how much memory the imports hold."""
        facts = checked_object(payload)
        self.preloading = False
        self.preloaded = not facts.get("failed")
        held = int(checked_number(facts, "held", 1 << 40)) if facts.get("held") is not None else 0
        self._needs_mb = self._base_mb + -(-held // specs.MB)

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
        sink: Sink | None = None,
    ) -> Ending:
        """Run a program to its end, or kill the container at the time limit.

        `on_start` is called while the program begins; `sink` gets the files that it leaves.

        With `reset` the runner makes the cell ready for another job of the same caller; `wait_clean` tells
        whether it could.

        Raises:
            NotBegun: the sandbox failed before the program began.
            CellLost: the sandbox failed; nothing is known of the program.
        """
        self.jobs += 1
        try:
            self.settle(program.limits)
        except EngineError as e:
            raise NotBegun(f"the engine did not set the limits: {e}") from e
        run = Run(self._stream, self, program, on_output, sink)
        run.begin(reset=reset)
        if on_start is not None:
            on_start()
        ending, self.resetting = run.follow()
        self.resetting = self.resetting and reset
        self.used_at = time.monotonic()
        return ending

    # What a run needs of its container:

    def stop(self) -> None:
        """End the program, for its time is up.

        The runner hears at once that we hung up, and kills the guest in one step. The engine would first have
        to start programs of its own, which a busy host and a fork bomb can hold up for seconds, and answers
        only when the last process is dead; whoever destroys the cell asks it to kill what may be left.
        """
        self._stream.close()

    def explain(self, ending: Ending) -> bool:
        """Note in `ending` why the container ended; False if nobody knows."""
        ending.killed = self._killed
        ending.container_oom = not self._killed and self._died_of_memory()
        return ending.killed or ending.container_oom

    def _died_of_memory(self) -> bool:
        """Whether the engine says that the container ended because its memory did."""
        code = KILLED
        with suppress(EngineError):  # busy: perhaps it knows all the same
            code = self._engine.wait(self.id, END_S)
        try:
            if self._engine.inspect(self.id)["State"]["OOMKilled"] is True:
                return True
            return code == KILLED and self._engine.ran_out_of_memory(self.id, OOM_S)
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

    def _expect(self, wanted: Kind, timeout_s: float) -> dict[str, Any]:
        """Wait for one frame of a kind; a late PRELOADED is taken on the way."""
        deadline = time.monotonic() + timeout_s
        while True:
            frame = self._stream.next(deadline - time.monotonic())
            if frame is None:
                raise CellLost(f"the runner did not say {wanted.name} within {timeout_s:g} s")
            if frame[0] is wanted:
                return checked_object(frame[1])
            if frame[0] is not Kind.PRELOADED:
                raise CellLost(f"the runner broke the protocol: {frame[0]} instead of {wanted}")
            self.preload_ended(frame[1])
