"""An interpreter that was started before its program came.

It runs as the guest, with the stdio that the program will have, and waits at a pipe on descriptor 3: in a
file of ours that the interpreter itself reads before any program (Node's `--require`, Bash's `BASH_ENV`, R's
`R_PROFILE`). When a job comes, the runner writes program and stdin where they are expected, and down the pipe
go the arguments and variables. The interpreter then finds its main program as it always does; nothing of ours
is between the two.

Nothing of a guest has run before it starts, since it is started anew after each reset, and it holds nothing
that the program may not see. So it needs no protection from the program: it becomes the program.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import posix
import time

from retort_runner.guest import WORK
from retort_runner.launch import Launch
from retort_runner.parked import Parked, pipe, write_all
from retort_runner.privileges import AsGuest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Prestarted:
    """An interpreter that waits.

    Whatever a job will need of it is open already: to open a file takes five calls, and each costs most when
    nothing has happened for a while.
    """

    def __init__(self, process: Parked, launch: Launch, uid: int) -> None:
        self.pid = process.pid
        self.memory_mb = launch.memory_mb()
        self._launch = launch
        self._stat = os.open(f"/proc/{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        self.stdio = process.stdio
        wait_end, self._go = pipe(uid)  # R opens it by name
        argv, env = launch.ahead()
        with AsGuest(uid):
            # R opens its program when it starts, though it reads it later: so there is one to open.
            self._program = os.open(f"{WORK}/{launch.file}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        process.start({"argv": argv, "environ": env}, b"", wait_end)
        posix.close(wait_end)

    def suits(self, header: dict[str, Any]) -> bool:
        """Whether it can become the program of this job."""
        return not self._launch.needs_cold(header) and self._launch.memory_mb() <= self.memory_mb

    def cpu_s(self) -> float:
        """CPU seconds it used so far, which are not the program's."""
        try:
            own = time.clock_gettime((~self.pid << 3) | 2)  # the kernel's name for a process's clock
            fields = os.pread(self._stat, 1024, 0).rpartition(b") ")[2].split()
            children = int(fields[13]) + int(fields[14])
        except OSError:
            return 0.0
        return own + children / os.sysconf("SC_CLK_TCK")

    def start(self, header: dict[str, Any], code: bytes) -> None:
        """Let it become the program. What it waits for is closed afterwards, so this works once."""
        write_all(self._program, code)
        args, env = header["args"], header["env"]
        # Where there is nothing to say the end of the pipe is enough, which wakes it once instead of twice.
        texts = (
            [str(len(args)), *args, *(f"{name}={value}" for name, value in env.items())] if args or env else []
        )
        message = b"".join(text.encode() + b"\0" for text in texts)
        try:
            write_all(self._go, message)
        except BrokenPipeError:
            pass  # it is gone; its end is told elsewhere
        posix.close(self._program)  # what is open for writing cannot be executed
        posix.close(self._go)  # now it begins
        posix.close(self._stat)

    def end(self) -> None:
        """Kill it, which may not have become the guest yet, and give up what is held for it."""
        try:
            os.kill(self.pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass  # the helper tells of its end, as always
        for fd in (self._program, self._stat, self._go):
            posix.close(fd)
        self.stdio.end()
