"""The runner's loop: wait for the host, run a job, report, reset, wait again."""

import gc
import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from retort_runner import wire
from retort_runner.cgroup import Counters
from retort_runner.job import Job
from retort_runner.parked import Parked
from retort_runner.privileges import drop_inheritable
from retort_runner.reset import reset, seed
from retort_runner.zygote import Zygote

_IMAGE = "/opt/retort/image.json"

#: What small programs import; loaded with the heavy packages, when the host finds the time.
_COMMON = (
    *("base64", "bisect", "collections", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal"),
    *("enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools", "json", "math", "operator"),
    *("pathlib", "random", "re", "statistics", "string", "subprocess", "tempfile", "textwrap", "threading"),
    *("time", "traceback", "typing", "urllib.parse", "uuid"),
)


class Runner:
    """State between frames."""

    def __init__(self, uid: int, rlimits: dict[str, int]) -> None:
        self.uid = uid
        self.rlimits = rlimits
        self.parked: Parked | None = None
        self.zygote: Zygote | None = None
        self.counters = Counters()
        with open(_IMAGE, encoding="utf-8") as file:
            self.image: dict[str, Any] = json.load(file)
        # The kernel tells of ended children through this pipe, so that one poll waits for everything.
        self.wake, self._wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._wake_end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)

    def park(self) -> None:
        """Have a process ready for the next job, and one with the heavy packages where there is a zygote."""
        if self.parked is None:
            self.parked = Parked.fork(self.uid, self.rlimits)
        if self.zygote is not None and self.zygote.ready and self.zygote.parked is None:
            self.zygote.park()

    def preload(self) -> None:
        """Start the zygote, which reports by itself when it is ready."""
        if self.zygote is not None:
            return
        for name in _COMMON:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        if self.parked is not None:
            self.parked.end()
        self.parked = None  # the next one knows what was just imported
        self.zygote = Zygote(self.image.get("preload", []), self.uid, self.rlimits)

    def zygote_speaks(self) -> None:
        """Take the zygote's message that it is ready, or its end."""
        assert self.zygote is not None
        facts = self.zygote.receive()
        if facts is None:
            self._end_zygote()
            wire.send_json(wire.PRELOADED, {"failed": True})
            return
        self.zygote.ready = True
        self.park()
        wire.send_json(wire.PRELOADED, facts)

    def _end_zygote(self) -> None:
        if self.zygote is not None:
            self.zygote.end()
        self.zygote = None

    def run(self, payload: bytes) -> None:
        """Run one job to its end and report it."""
        header, code, stdin = wire.parse_job(payload)
        if self.zygote is not None and not self.zygote.ready:
            self._end_zygote()  # half imported is no use, and would eat the job's share
        wants = any(name.encode() in code for name in self.image.get("mentions", []))
        zygote = self.zygote if wants and self.zygote is not None and self.zygote.parked else None
        if zygote is None and self.parked is None:
            self.parked = Parked.fork(self.uid, self.rlimits)
        job = Job(header, code, stdin, uid=self.uid, counters=self.counters, wake=self.wake)
        if zygote is not None and zygote.parked is not None:
            process, zygote.parked = zygote.parked, None
        else:
            assert self.parked is not None
            process, self.parked = self.parked, None
        facts = job.run(process, zygote)
        if job.zygote_lost:
            self._end_zygote()
        wire.send_json(wire.EXIT, facts)
        if header.get("reset"):
            ours = {os.getpid()} | (self.zygote.pids() if self.zygote else set())
            ours |= {self.parked.pid} if self.parked else set()
            left = reset(self.uid, ours)
            self.park()
            wire.send_json(wire.CLEAN, {"clean": left is None, "left": left})

    def forever(self) -> None:
        """Serve the host until it hangs up."""
        import select

        while True:
            poll = select.poll()
            poll.register(0, select.POLLIN)
            if self.zygote is not None and not self.zygote.ready:
                poll.register(self.zygote.channel, select.POLLIN)
            for fd, _ in poll.poll():
                if fd != 0:
                    self.zygote_speaks()
                    continue
                kind, payload = wire.receive()
                if kind == wire.JOB:
                    self.run(payload)
                elif kind == wire.PRELOAD:
                    self.preload()
                break


def main() -> None:
    """Run as PID 1: `python3 /opt/retort '{"uid": …, "rlimits": {…}}'`."""
    config = json.loads(sys.argv[1])
    os.setgroups([])
    drop_inheritable()
    runner = Runner(config["uid"], config["rlimits"])
    seed(runner.uid)
    gc.freeze()
    runner.park()
    facts = {"protocol": 1, "python": sys.version.split()[0], "held": runner.counters.held()}
    wire.send_json(wire.UP, facts)
    with suppress(wire.Closed, BrokenPipeError):
        runner.forever()
