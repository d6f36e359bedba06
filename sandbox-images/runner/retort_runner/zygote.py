"""A helper process that imports the heavy packages once, and from which jobs that want them are forked.

It is a fork of the runner and stays root. It takes one job at a time over a socket pair: a message with the
job, and the job's three stdio descriptors and a descriptor to its code. It answers with the process id, then
with how the process ended.
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

from retort_runner import guest
from retort_runner.cgroup import Counters


_MESSAGE = 1 << 20


def _serve(channel: socket.socket, modules: list[str]) -> NoReturn:
    started = time.monotonic()
    # While a light job runs beside the imports it comes first; what is forked from here is ordinary again.
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    for name in modules:
        importlib.import_module(name)
    # Everything so far is as good as immortal: jobs neither scan nor copy it when they collect garbage.
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    channel.send(
        json.dumps({"seconds": round(time.monotonic() - started, 3), "held": Counters().held()}).encode()
    )
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE, 4)
        if not message:
            os._exit(0)
        job = json.loads(message)
        with os.fdopen(descriptors.pop(), "rb") as file:
            code = file.read()
        pid = os.fork()
        if pid == 0:
            guest.run(job, code, (descriptors[0], descriptors[1], descriptors[2]))
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(json.dumps({"pid": pid}).encode())
        _, status, usage = os.wait4(pid, 0)
        channel.send(json.dumps({"status": status, **used(usage)}).encode())


def used(usage: resource.struct_rusage) -> dict[str, Any]:
    """CPU seconds and highest resident bytes of an ended process and those it waited for."""
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}


class Zygote:
    """The runner's side of the helper."""

    def __init__(self, modules: list[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = ours
        self.ready = False
        self.facts: dict[str, Any] = {}
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(0, 1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _serve(theirs, modules)
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

    def spawn(self, job: dict[str, Any], code: bytes, stdio: tuple[int, int, int]) -> int | None:
        """Fork a job off the helper: its process id, or None if the helper is gone."""
        file = os.memfd_create("code")
        try:
            with os.fdopen(os.dup(file), "wb") as writer:
                writer.write(code)
            os.lseek(file, 0, os.SEEK_SET)
            socket.send_fds(self.channel, [json.dumps(job).encode()], [*stdio, file])
        except OSError:
            return None
        finally:
            os.close(file)
        answer = self.receive()
        return None if answer is None else int(answer["pid"])

    def end(self) -> None:
        """Kill the helper and take its place back."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.channel.close()
