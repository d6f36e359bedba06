"""A helper process that imports the heavy packages once; jobs that want them are forked from it.

It is a fork of the runner and stays root, out of the guest's reach. Over a channel it says when it is ready;
then each message asks for one parked process and brings the process's end of a channel of its own. The helper
answers with the process id, waits, and tells how the process ended.
"""

import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from retort_runner import parked
from retort_runner.cgroup import Counters
from retort_runner.parked import Parked

_MESSAGE = 1 << 12


def used(usage: resource.struct_rusage) -> dict[str, Any]:
    """CPU seconds and highest resident bytes of an ended process and those it waited for."""
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}


def _serve(channel: socket.socket, modules: list[str], uid: int, rlimits: dict[str, int]) -> NoReturn:
    started = time.monotonic()
    # A job that comes during the imports goes first; what is forked from here is ordinary again.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    for name in modules:
        importlib.import_module(name)
    # Everything so far is as good as immortal: jobs neither scan nor copy it when they collect garbage.
    gc.collect()
    gc.freeze()
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    facts = {"seconds": round(time.monotonic() - started, 3), "held": Counters().held()}
    channel.send(json.dumps(facts).encode())
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE, 1)
        if not message:
            os._exit(0)
        theirs = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            parked.wait(theirs, uid, rlimits)
        theirs.close()
        channel.send(json.dumps({"pid": pid}).encode())
        _, status, usage = os.wait4(pid, 0)
        channel.send(json.dumps({"status": status, **used(usage)}).encode())


class Zygote:
    """The runner's hold on the helper."""

    def __init__(self, modules: list[str], uid: int, rlimits: dict[str, int]) -> None:
        ours, theirs = parked.pair()
        self.channel = ours
        self.ready = False
        self.parked: Parked | None = None
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _serve(theirs, modules, uid, rlimits)
            except BaseException as error:
                print(f"zygote: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        theirs.close()

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the helper is gone."""
        try:
            message = self.channel.recv(_MESSAGE)
        except OSError:
            return None
        return json.loads(message) if message else None

    def park(self) -> None:
        """Have a process forked that waits for a program; `parked` stays None if the helper is gone."""
        ours, theirs = parked.pair()
        with theirs:
            try:
                socket.send_fds(self.channel, [b"park"], [theirs.fileno()])
            except OSError:
                ours.close()
                return
        answer = self.receive()
        if answer is None:
            ours.close()
        else:
            self.parked = Parked(int(answer["pid"]), ours)

    def pids(self) -> set[int]:
        """The helper and what it has parked."""
        return {self.pid} | ({self.parked.pid} if self.parked else set())

    def end(self) -> None:
        """Kill the helper; what it has parked ends with its channel."""
        if self.parked is not None:
            self.parked.end()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.channel.close()
