"""Helper processes that fork programs, each level with more packages imported than the one below.

All are forks of the runner and stay root, out of the guest's reach. The runner itself never forks a program:
a process that forks pays afterwards for every page it touches, so it had better be one that touches few.

Over a channel a helper says when it has imported its packages. Then each message asks for something and
brings the other end of a channel: `park` for a parked process, whose id it answers and whose end it reports;
`grow` for a helper of the next level.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket as socket
import gc
import marshal
import os
import posix
import select
import sys
import time

from retort_runner import parked
from retort_runner.guest import WORK
from retort_runner.last import ONLY_AST
from retort_runner.parked import Parked, Stdio
from retort_runner.privileges import AsGuest
from retort_runner.reset import seed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Sequence
    from typing import Any, NoReturn

_PARK = b"park"
_GROW = b"grow"


class Level:
    """`modules` to import, for programs with one of the words `mentions` in their text.

    `rehearsal` is a program of ours that does in small what such programs do.
    """

    def __init__(self, modules: tuple[str, ...], mentions: tuple[bytes, ...], rehearsal: str) -> None:
        self.modules = modules
        self.mentions = mentions
        self.rehearsal = rehearsal


def used(usage: resource.struct_rusage) -> dict[str, Any]:
    """CPU seconds and highest resident bytes of an ended process and those it waited for."""
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}


def _serve(channel: socket.socket, modules: tuple[str, ...], rehearsal: str, uid: int) -> NoReturn:
    """Be the helper that has imported `modules`."""
    began = time.monotonic()
    if modules:
        _import(modules, uid)
    sys.path[0] = WORK  # was the runner's folder
    # The compiler builds its types at its first use, which takes longer than to start a program.
    compile("0", "<string>", "exec")
    compile("0", "<string>", "exec", ONLY_AST)
    with AsGuest(uid):
        exec(rehearsal, {"__name__": "__main__"})  # what is imported or made at a first use is there for all
    # Everything so far is as good as immortal: programs neither scan nor copy it when they collect garbage.
    gc.collect()
    gc.freeze()
    channel.send(marshal.dumps({"seconds": time.monotonic() - began}))
    while True:
        message, descriptors = parked.receive_with(channel)
        if not message:
            posix._exit(0)
        try:
            while posix.waitpid(-1, os.WNOHANG)[0]:  # a helper of the next level that was ended
                continue
        except ChildProcessError:
            pass
        theirs, stdio = socket.socket(fileno=descriptors[0]), descriptors[1:]
        pid = os.fork()
        if pid == 0:
            channel.close()
            if message != _PARK:
                level = marshal.loads(message[len(_GROW) :])
                _serve(theirs, level[0], level[1], uid)
            parked.wait(theirs, stdio, rehearsal, uid)
        theirs.close()
        for fd in stdio:
            posix.close(fd)
        channel.send(marshal.dumps(pid))
        if message == _PARK:
            _, status, usage = posix.wait4(pid, 0)
            channel.send(marshal.dumps({"status": status, **used(usage)}))


def _import(modules: tuple[str, ...], uid: int) -> None:
    # A job that comes meanwhile goes first; what is forked from here later is ordinary again.
    _schedule(os.SCHED_IDLE)
    seed(uid)
    with AsGuest(uid):  # what an import writes must be the guest's, to be wiped with the rest
        for name in modules:
            __import__(name)
    _schedule(os.SCHED_OTHER)


def _schedule(policy: int) -> None:
    try:
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    except OSError:
        return


class Zygote:
    """The runner's hold on a helper."""

    def __init__(self, pid: int, channel: socket.socket, uid: int) -> None:
        self.pid = pid
        self.channel = channel
        self._uid = uid
        self.ready = False
        self.parked: Parked | None = None
        self.owes = False  # word of the end of a program that told of it itself

    @classmethod
    def first(cls, level: Level, uid: int) -> Zygote:
        """Fork the lowest helper off this process, the runner."""
        ours, theirs = parked.pair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            _signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            _serve(theirs, level.modules, level.rehearsal, uid)
        theirs.close()
        return cls(pid, ours, uid)

    def receive(self) -> Any:
        """The next message; None when the helper is gone."""
        try:
            message = self.channel.recv(4096)
        except OSError:
            return None
        return marshal.loads(message) if message else None

    def settle(self, within_s: float) -> None:
        """Wait until a program that told of its end itself is gone; for so long at the most."""
        if self.owes:
            poll = select.poll()
            poll.register(self.channel, select.POLLIN)
            if poll.poll(within_s * 1000):
                self.owes = False
                self.receive()

    def _ask(self, what: bytes, stdio: Sequence[int] = ()) -> tuple[int, socket.socket] | None:
        if self.owes:
            self.owes = False
            self.receive()
        ours, theirs = parked.pair()
        try:
            parked.send_with(self.channel, what, [theirs.fileno(), *stdio])
            pid = self.receive()
        except OSError:
            pid = None
        theirs.close()
        if pid is not None:
            return pid, ours
        ours.close()
        return None

    def park(self) -> bool:
        """Have a process parked; False if the helper is gone."""
        if self.parked is None:
            stdio = Stdio(self._uid)
            answer = self._ask(_PARK, stdio.theirs)
            stdio.given()
            if answer is None:
                stdio.end()
                return False
            self.parked = Parked(*answer, stdio)
        return True

    def grow(self, level: Level) -> Zygote | None:
        """Begin the helper of the next level. Only while nothing is parked here: the helper waits for that."""
        answer = self._ask(_GROW + marshal.dumps((level.modules, level.rehearsal)))
        return None if answer is None else Zygote(*answer, self._uid)

    def pids(self) -> set[int]:
        """The helper and what it has parked."""
        return {self.pid} | ({self.parked.pid} if self.parked else set())

    def end(self) -> None:
        """Kill the helper; what it has parked ends with its channel."""
        if self.parked is not None:
            self.parked.end()
        try:
            os.kill(self.pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.channel.close()
