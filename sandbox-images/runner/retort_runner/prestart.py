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
from retort_runner.launch import Launch, memory_mb
from retort_runner.parked import Parked
from retort_runner.privileges import AsGuest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _pipe(uid: int) -> tuple[int, int]:
    """A pipe whose ends the guest may also open by their names."""
    ends = os.pipe()
    try:
        os.fchmod(ends[1], 0o666)
    except PermissionError:  # gVisor, where they are whose who makes them
        for fd in ends:
            os.close(fd)
        with AsGuest(uid):
            ends = os.pipe()
    return ends


def output_pipe(uid: int) -> tuple[int, int]:
    """A pipe to read from without waiting; the guest knows the other end as /dev/stdout, too."""
    ours, theirs = _pipe(uid)
    os.set_blocking(ours, False)
    return ours, theirs


class Prestarted:
    """An interpreter that waits."""

    def __init__(self, process: Parked, launch: Launch, uid: int) -> None:
        self.pid = process.pid
        self.memory_mb = memory_mb()
        self._uid = uid
        self._launch = launch
        self._stdin = os.memfd_create("stdin")
        stdin = os.open(f"/proc/self/fd/{self._stdin}", os.O_RDONLY | os.O_CLOEXEC)
        self.out, out_end = output_pipe(uid)
        self.err, err_end = output_pipe(uid)
        wait_end, self._go = _pipe(uid)  # R opens it by name
        argv, env = launch.ahead()
        stdio = (stdin, out_end, err_end, wait_end)
        # R opens its program when it starts, though it reads it later: so there is one to open.
        self._write(launch.file, b"")
        process.start({"argv": argv, "environ": env}, b"", stdio)
        for fd in stdio:
            os.close(fd)

    def suits(self, header: dict[str, Any]) -> bool:
        """Whether it can become the program of this job."""
        return not self._launch.needs_cold(header) and memory_mb() <= self.memory_mb

    def cpu_s(self) -> float:
        """CPU seconds it used so far, which are not the program's."""
        try:
            own = time.clock_gettime((~self.pid << 3) | 2)  # the kernel's name for a process's clock
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                children = sum(map(int, file.read().rpartition(b") ")[2].split()[13:15]))
        except OSError:
            return 0.0
        return own + children / os.sysconf("SC_CLK_TCK")

    def start(self, header: dict[str, Any], code: bytes, stdin: bytes) -> None:
        """Let it become the program. What it waits for is closed afterwards, so this works once."""
        self._write(header["file"], code)
        with open(self._stdin, "wb") as file:
            file.write(stdin)
        args = header["args"]
        texts = [str(len(args)), *args, *(f"{name}={value}" for name, value in header["env"].items())]
        message = b"".join(text.encode() + b"\0" for text in texts)
        try:
            while message:
                message = message[posix.write(self._go, message) :]
        except BrokenPipeError:
            pass  # it is gone; its end is told elsewhere
        os.close(self._go)

    def _write(self, name: str, code: bytes) -> None:
        with AsGuest(self._uid), open(f"{WORK}/{name}", "wb") as file:
            file.write(code)

    def end(self) -> None:
        """Kill it, which may not have become the guest yet, and give up what is held for it."""
        try:
            os.kill(self.pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass  # the helper tells of its end, as always
        for fd in (self._stdin, self.out, self.err, self._go):
            os.close(fd)
