"""The runner's loop: wait for the host, run a job, report, reset, wait again."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import posix
import select
import sys
import time

from retort_runner import attention, wire
from retort_runner.cgroup import Counters
from retort_runner.collect import NOTHING, Collector, Wanted
from retort_runner.guest import WORK
from retort_runner.inputs import Inputs
from retort_runner.job import Job
from retort_runner.launch import Launch
from retort_runner.prestart import Prestarted
from retort_runner.privileges import drop_inheritable, kill_guests
from retort_runner.reset import END_S, reset, seed
from retort_runner.zygote import Level, Zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Written with the image: three lines for each level, of modules and of words, separated by tabs, and of code.
_PRELOAD = "/opt/retort/preload"

#: Seconds that the runner leaves the processors to its report. The report's reader is woken on the runner's own
#: processor; to end the container there, or to reset it, would keep the report from the host for a millisecond.
_HEAD_START_S = 0.0005


def _levels() -> list[Level]:
    """What each helper above the first imports, and for which programs."""
    try:
        with open(_PRELOAD, encoding="utf-8") as file:
            lines = [line.split("\t") for line in file.read().splitlines()]
    except FileNotFoundError:
        return []
    return [
        Level(tuple(modules), tuple(word.encode() for word in words), rehearsal)
        for modules, words, (rehearsal,) in zip(lines[::3], lines[1::3], lines[2::3], strict=True)
    ]


class Runner:
    """State between frames. `zygotes` are the helpers, from the lowest; only the last may not be ready."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.counters = Counters()
        self.inputs = Inputs(uid)
        self.wanted: Wanted | None = None
        # The kernel tells of ended children through this pipe, so that one poll waits for everything.
        self.wake, wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_end, False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        launch = Launch.read(self.counters)
        self.launch = launch and launch.rehearsal()
        self.prestarted: Prestarted | None = None
        self.levels = [Level((), (), "print(end='')"), *_levels()]
        self.zygotes = [Zygote.first(self.levels[0], uid)]
        self.zygote_speaks()
        self._rehearse()
        self.launch = launch
        self._get_ready(self.zygotes[0])
        attention.pay()

    def _rehearse(self) -> None:
        """Run a program of ours as any other, unheard.

        Helpers were forked from us: what we touch for the first time afterwards has to be copied. Now is a
        better time for that than the first job's.
        """
        host, null = posix.dup(1), posix.open("/dev/null", posix.O_WRONLY)
        posix.dup2(null, 1)
        self._perform(*wire.parse_job(wire.REHEARSAL))
        posix.dup2(host, 1)
        posix.close(host)
        posix.close(null)
        if left := self._clean():
            raise SystemExit(f"the rehearsal left something: {left}")

    def zygote_speaks(self) -> None:
        """Take the last helper's message that it is ready, or its end; then begin the next, if preloading."""
        last = self.zygotes[-1]
        facts = last.receive()
        if facts is None:
            self._drop_last()
            if not self.zygotes:
                raise SystemExit("the first helper died")
            wire.send_facts(wire.PRELOADED, failed=True)
            return
        last.ready = True
        if len(self.zygotes) == 1:
            self._get_ready(last)
        elif not self._grow():
            for zygote in self.zygotes:
                zygote.park()
                if zygote.parked is not None:
                    zygote.parked.wait_ready()
            wire.send_facts(wire.PRELOADED, seconds=facts["seconds"], held=self.counters.held())

    def _grow(self) -> bool:
        """Begin the next level; False if there is none."""
        last = self.zygotes[-1]
        if len(self.zygotes) == len(self.levels) or not last.ready:
            return False
        if last.parked is not None:
            # A helper waits for what it has parked; let it go, and hear of its end.
            last.parked.end()
            last.parked = None
            last.receive()
        grown = last.grow(self.levels[len(self.zygotes)])
        if grown is None:
            return False
        self.zygotes.append(grown)
        return True

    def _drop_last(self) -> None:
        self.zygotes.pop().end()

    def _choose(self, code: bytes) -> Zygote:
        """The helper for a program: the highest that is ready and that the program has a use for."""
        if not self.zygotes[-1].ready:
            self._drop_last()  # half imported is no use, and would eat the job's share
        wanted = max(
            (index for index, level in enumerate(self.levels) if any(word in code for word in level.mentions)),
            default=0,
        )
        if wanted >= len(self.zygotes):
            seed(self.uid)  # it will import for itself
        return self.zygotes[min(wanted, len(self.zygotes) - 1)]

    def _get_ready(self, zygote: Zygote) -> None:
        """Have a process wait for the next program, as an interpreter if the language has one that can."""
        if not zygote.park() or self.launch is None or not self.launch.prestart:
            return
        process, zygote.parked = zygote.parked, None
        assert process is not None
        self.prestarted = Prestarted(process, self.launch, self.uid)

    def _take_prestarted(self, header: dict[str, Any]) -> Prestarted | None:
        """The waiting interpreter, if it is there and suits the job; one that does not is ended."""
        waiting, self.prestarted = self.prestarted, None
        if waiting is None:
            return None
        zygote = self.zygotes[-1]
        poll = select.poll()
        poll.register(zygote.channel, select.POLLIN)
        ended = bool(poll.poll(0))
        if not ended and waiting.suits(header):
            return waiting
        waiting.end()
        kill_guests(self.uid)  # what it may have started meanwhile
        zygote.receive()  # the helper tells of its end
        return None

    def run(self, payload: bytes) -> None:
        """Run one job to its end and report it."""
        header, code, stdin = wire.parse_job(payload)
        zygote, lost = self._perform(header, code, stdin)
        time.sleep(_HEAD_START_S)
        if not header["reset"]:
            posix._exit(0)  # single use: the container ends by itself, and everything in it
        if lost:
            raise SystemExit("a helper died")
        left = self._clean()
        if left is None:
            self._get_ready(zygote)
        wire.send_facts(wire.CLEAN, clean=left is None, left=left)

    def _perform(self, header: dict[str, Any], code: bytes, stdin: bytes) -> tuple[Zygote, bool]:
        """Run a program and report it: the helper that it was forked from, and whether that died."""
        self.inputs.end()
        zygote = self._choose(code)
        prestarted = self._take_prestarted(header)
        if self.launch is not None and self.launch.compile and not self._compile(zygote, header, code):
            return zygote, False
        job = self._job(header, code, stdin, prestarted=prestarted)
        if prestarted is None and not zygote.park():
            raise SystemExit("a helper died")
        facts = job.run(zygote)
        facts["level"] = self.zygotes.index(zygote) if prestarted is None else 1
        frames = [*job.held, (wire.EXIT, wire.facts_of(**facts))]
        if self.wanted is None:
            wire.send_all(frames)
        else:
            Collector(self.wanted, header["file"].encode(), self.inputs.placed, frames).collect(self.uid)
        return zygote, job.zygote_lost

    def _clean(self) -> str | None:
        """Make ready for another program: None, or what is left of the last one."""
        for zygote in self.zygotes:
            zygote.settle(END_S)
        left = reset(self.uid, {os.getpid()}.union(*(z.pids() for z in self.zygotes)))
        self.inputs, self.wanted = Inputs(self.uid), None
        return left

    def _job(self, header: dict[str, Any], code: bytes, stdin: bytes, **how: Any) -> Job:
        return Job(
            header, code, stdin, uid=self.uid, counters=self.counters, wake=self.wake, launch=self.launch, **how
        )

    def _compile(self, zygote: Zygote, header: dict[str, Any], code: bytes) -> bool:
        """Compile, and report it; what the compiler said is told, and the job is over, if it failed."""
        if not zygote.park():
            raise SystemExit("a helper died")
        compiler = self._job(header, code, b"", compiling=True)
        facts = compiler.run(zygote)
        if compiler.zygote_lost:
            raise SystemExit("a helper died")
        phase = {name: facts[name] for name in ("status", "wall_s", "cpu_s")}
        frames = [(wire.PHASE, wire.facts_of(**phase))]
        compiled: bool = facts["status"] == 0
        if compiled:
            self.inputs.add_made()
        else:
            frames += [*compiler.held, (wire.EXIT, wire.facts_of(**facts, level=0))]
            if self.wanted is not None:
                frames.append((wire.COLLECTED, NOTHING))  # the program never began, so it left nothing
        wire.send_all(frames)
        return compiled

    def place(self, payload: bytes) -> None:
        """Write a piece of an input."""
        try:
            self.inputs.take(payload)
        except OSError as error:
            raise SystemExit(f"an input could not be written: {error}") from None

    def preload(self) -> None:
        """Begin to import; the last helper tells when all is done."""
        if not self._grow():
            wire.send_facts(wire.PRELOADED, failed=True)

    def forever(self) -> None:
        """Serve the host until it hangs up."""
        while True:
            poll = select.poll()
            poll.register(0, select.POLLIN)
            if not self.zygotes[-1].ready:
                poll.register(self.zygotes[-1].channel, select.POLLIN)
            ready = [fd for fd, _ in poll.poll()]
            if 0 not in ready:
                self.zygote_speaks()
                continue
            kind, payload = wire.receive()
            if kind == wire.JOB:
                self.run(payload)
            elif kind == wire.PRELOAD:
                self.preload()
            elif kind == wire.FILE:
                self.place(payload)
            elif kind == wire.COLLECT:
                self.wanted = Wanted(payload)


def _forget_ourselves() -> None:
    """Leave nothing of ours where a program looks for modules; the functions live on without."""
    for name in [n for n in sys.modules if n == "__main__" or n.split(".", 1)[0] == "retort_runner"]:
        del sys.modules[name]


def main() -> None:
    """Run as PID 1: `python3 /opt/retort/__main__.py UID`, the guest's user."""
    uid = int(sys.argv[1])
    os.setgroups([])
    os.umask(0o022)
    drop_inheritable()
    os.environ.pop("HOSTNAME", None)
    os.environ.update({"HOME": WORK, "PWD": WORK, "USER": "guest", "LOGNAME": "guest"})
    _forget_ourselves()
    gc.freeze()
    runner = Runner(uid)
    wire.send_facts(wire.UP, protocol=4, python=sys.version.split()[0], held=runner.counters.held())
    try:
        runner.forever()
    except (wire.Closed, BrokenPipeError):
        return
