"""One job from start to end: start the program, carry its output, end every process, count."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import posix
import select
import time

from retort_runner import disk, ended, gvisor, wire
from retort_runner.cgroup import Counters, Sample
from retort_runner.launch import Launch
from retort_runner.parked import Parked, write_all
from retort_runner.prestart import Prestarted
from retort_runner.privileges import kill_guests
from retort_runner.zygote import Zygote, used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 16
_STAT_EVERY_S = 0.1

#: What is still read of a stream when all its writers were killed: more than a pipe can hold.
_DRAIN = (1 << 20) + _CHUNK

#: How long output may wait for more, and how much of it: what a short program prints travels with its end, in
#: one piece instead of two through the engine's three processes.
_HOLD_MS = 2
_HOLD_BYTES = 1 << 14


class Job:
    """Runs once.

    `launch`: how, where the program is not forked from a helper. With `compiling` it is the compiler that runs;
    what that writes stays in `held`, for whoever ran it to send or forget. `prestarted` becomes the program.
    """

    def __init__(
        self,
        header: dict[str, Any],
        code: bytes,
        stdin: bytes,
        *,
        uid: int,
        counters: Counters,
        wake: int,
        launch: Launch | None = None,
        compiling: bool = False,
        prestarted: Prestarted | None = None,
    ) -> None:
        self.header = header
        self.code = code
        self.stdin = stdin
        self.uid = uid
        self.counters = counters
        self.wake = wake
        self.launch = launch
        self.compiling = compiling
        self.prestarted = prestarted
        self.zygote_lost = False
        self._pid = 0
        self._status: int | None = None
        self._cpu_s = 0.0
        self._rss = 0
        self._sent = {wire.STDOUT: 0, wire.STDERR: 0}
        self._room = int(header["output_bytes"])  # below zero: it wrote more than it may
        self.held: list[tuple[bytes, bytes]] = []
        self._held_bytes = 0

    def run(self, zygote: Zygote) -> dict[str, Any]:
        """Run in what the helper has parked, to the end of every process; the facts of the end.

        Output that is still held then is in `held`, to be sent before the facts.

        Raises:
            wire.Closed: the host hung up meanwhile.
        """
        before = self.counters.sample()
        began = time.monotonic()
        pipes = self._start(zygote)
        self._carry(pipes, zygote, began, before)
        wall_s = time.monotonic() - began
        # From here nothing of the guest's writes, so reading what the pipes hold is reading all of it.
        kill_guests(self.uid)
        self._reap()
        for fd, kind in pipes.items():
            drained = 0
            while drained < _DRAIN and (count := self._forward(fd, kind)) > 0:
                drained += count
                if self._held_bytes > _HOLD_BYTES:
                    self._flush()
            os.close(fd)
        after = self.counters.sample()
        return {
            "status": self._status,
            "wall_s": wall_s,
            "cpu_s": self.cpu_s,
            "peak_bytes": self._peak(before.memory, before.peak, after.peak),
            "oom_kills": after.oom_kills - before.oom_kills,
            "stdout_bytes": self._sent[wire.STDOUT],
            "stderr_bytes": self._sent[wire.STDERR],
            "output_limit": self._room < 0,
            "disk_full": self._status != 0 and disk.full(self.uid),
        }

    @property
    def cpu_s(self) -> float:
        """CPU seconds of its processes that have ended.

        Not below 0: what an interpreter used before is taken off, by another clock, and what is added in parts
        may come to less.
        """
        return max(0.0, self._cpu_s)

    def _start(self, zygote: Zygote) -> dict[int, bytes]:
        process: Prestarted | Parked | None = self.prestarted or zygote.parked
        assert process is not None
        self._pid = process.pid
        stdio = process.stdio
        write_all(stdio.stdin, self.stdin)
        posix.close(stdio.stdin)
        # If the process is gone, its end is what is seen next, like any other's.
        if isinstance(process, Prestarted):
            self._cpu_s = -process.cpu_s()
            process.start(self.header, self.code)
        else:
            zygote.parked = None
            ended.clear()
            process.start(self._wanted(), self.code)
        return {stdio.out: wire.STDOUT, stdio.err: wire.STDERR}

    def _wanted(self) -> dict[str, Any]:
        """What the parked process shall do, for guest.py."""
        header, launch = self.header, self.launch
        if launch is None:
            return {name: header[name] for name in ("file", "args", "env")}
        argv, environ = launch.compiler(header) if self.compiling else launch.cold(header)
        wanted: dict[str, Any] = {"argv": argv, "environ": environ}
        if self.compiling or not launch.compile:
            wanted["file"] = header["file"]
        return wanted

    def _carry(self, pipes: dict[int, bytes], zygote: Zygote, began: float, before: Sample) -> None:
        """Carry output until the main process ended, or wrote too much and was killed."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        poll.register(zygote.channel, select.POLLIN)
        for fd in pipes:
            poll.register(fd, select.POLLIN)
        still_open = set(pipes)
        own = time.process_time()
        every_s = _STAT_EVERY_S * (5 if self.counters.missing else 1)  # there a look costs more
        now, stat_at = began, began + every_s
        while self._status is None and self._room >= 0:
            holding = self.held and not self.compiling
            ready = poll.poll(_HOLD_MS if holding else max(1, (stat_at - now) * 1000))
            if not ready or self._held_bytes > _HOLD_BYTES:
                self._flush()
            for fd, _ in ready:
                if fd in pipes:
                    # One chunk a turn, so that a flood on one stream holds up nothing else.
                    if self._forward(fd, pipes[fd]) == 0:
                        poll.unregister(fd)  # closed by the program; mostly the end is told elsewhere
                        still_open.remove(fd)
                        if not still_open:
                            self._ended(zygote)
                elif fd == self.wake:
                    os.read(self.wake, 4096)
                    self._reap()
                elif fd == 0:
                    # The host sends nothing during a job: it hung up.
                    kill_guests(self.uid)
                    raise wire.Closed
                else:
                    self._zygote_says(zygote, poll)
            now = time.monotonic()
            if now >= stat_at:
                stat_at = now + every_s
                self._tell(before, time.process_time() - own)

    def _tell(self, before: Sample, own_s: float) -> None:
        """Tell the host what the job used so far; of the CPU time, `own_s` was ours, to carry its output."""
        sample = self.counters.sample()
        cpu_s = memory = None
        if self.counters.missing:
            cpu_s = max(0.0, self._cpu_s + gvisor.cpu_s(self.uid))
        elif sample.cpu_s is not None and before.cpu_s is not None:
            cpu_s = max(0.0, sample.cpu_s - before.cpu_s - own_s)
        if sample.memory is not None and before.memory is not None:
            memory = max(0, sample.memory - before.memory)
        wire.send_facts(wire.STAT, cpu_s=cpu_s, memory=memory)

    def _forward(self, fd: int, kind: bytes) -> int:
        """Send what one read gives to the host: bytes read, 0 at the end of the stream, -1 for nothing now."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return -1
        if chunk:
            self._room -= len(chunk)
            self._sent[kind] += len(chunk)
            self.held.append((kind, chunk))
            self._held_bytes += len(chunk)
        return len(chunk)

    def _flush(self) -> None:
        if self.held and not self.compiling:
            wire.send_all(self.held)
            self.held, self._held_bytes = [], 0

    def _reap(self) -> None:
        """Collect every child that ended; orphans of the guest are ours too."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._count(used(usage))
            if pid == self._pid:
                self._status = status

    def _ended(self, zygote: Zygote) -> None:
        """The program's output is closed: take its end from itself, if it told it."""
        code = ended.told(self._pid)
        usage = None if code is None else ended.usage(self._pid)
        if code is not None and usage is not None and self._status is None:
            self._status = code << 8
            self._count(usage)
            zygote.owes = True

    def _zygote_says(self, zygote: Zygote, poll: select.poll) -> None:
        facts = zygote.receive()
        if facts is not None:
            self._status = int(facts["status"])
            self._count(facts)
            return
        # The helper died, most likely for memory. The program is our child now and will be reaped; or it was
        # already gone too.
        self.zygote_lost = True
        poll.unregister(zygote.channel)
        self._reap()
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            if self._status is None:
                self._status = _signal.SIGKILL

    def _count(self, facts: dict[str, Any]) -> None:
        self._cpu_s += facts["cpu_s"]
        self._rss = max(self._rss, facts["rss"])

    def _peak(self, memory: int | None, peak_before: int | None, peak_after: int | None) -> int | None:
        """Highest memory of the job alone, in bytes.

        Exact where the container's own high-water mark rose during the job. Where an earlier peak hides it (a
        used cell, or the imports of a warm one), the highest resident set among the job's processes is the
        next best that an unprivileged process can read. An interpreter that was up counts as a whole.
        """
        if (
            memory is not None
            and peak_before is not None
            and peak_after is not None
            and peak_after > peak_before
        ):
            rise = peak_after - memory
            return rise if self.prestarted is None else max(rise, self._rss)
        return self._rss or None
