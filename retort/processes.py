"""Start, end and find processes. Nothing here knows which programs they are.

Every child gets a session of its own, so a Ctrl-C in the terminal reaches only us and we decide the order in
which things end. Its output goes straight into a file: it neither blocks on a reader nor dies with one.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

_PR_SET_PDEATHSIG = 1

#: Signals and the seconds each is given before the next; SIGKILL follows the last.
Steps = Sequence[tuple[signal.Signals, float]]

POLITE: Steps = ((signal.SIGTERM, 10.0),)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _die_with_parent(parent: int, parting: signal.Signals) -> Callable[[], None]:
    """Run between fork and exec: have the kernel send `parting` when our thread ends, however it ends.

    The kernel means the *thread* that forked, so `spawn` belongs in a thread that lives as long as we do.
    """
    prctl = _libc().prctl  # resolved before the fork

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(parting))
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return before_exec


def spawn(
    args: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    parting: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child that appends its output to `log` and does not outlive us."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(arg) for arg in args],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
            preexec_fn=_die_with_parent(os.getpid(), parting),
        )


def end(process: subprocess.Popen[bytes], steps: Steps = POLITE) -> int:
    """End a child of `spawn` and what is left of its session; its exit code as `Popen` gives it."""
    for step, grace_s in steps:
        if process.poll() is not None:
            break
        process.send_signal(step)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


class Program:
    """One long-running child: a command line, its environment, its log."""

    def __init__(
        self, title: str, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str], steps: Steps
    ) -> None:
        self.title = title
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._env = env
        self._steps = steps

    def start(self) -> None:
        """Start it; whether it is ready is for others to ask."""
        self.process = spawn(self._command, log=self.log, env=self._env)

    def stop(self) -> int | None:
        """End it, politely first; its exit code, None if it did not run."""
        if self.process is None:
            return None
        code = end(self.process, self._steps)  # `hurry` may come meanwhile
        self.process = None
        return code

    def hurry(self) -> None:
        """End it now. Safe in a signal handler while `stop` waits."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def begun(pid: int) -> int | None:
    """When the process began, in clock ticks since boot: with the pid, a name that is never given twice.

    None if it is gone. One that is dead but not yet collected by its parent is gone, too.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def working_in(folder: Path, program: str) -> list[int]:
    """Processes called `program` whose working folder is `folder`.

    Both servers change into their data folder, so this finds what a crash left behind without trusting a
    file of process ids, whose numbers may meanwhile belong to someone else.
    """
    found = []
    wanted = str(folder.resolve())
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "comm").read_text().strip() == program and os.readlink(entry / "cwd") == wanted:
                found.append(int(entry.name))
        except OSError:  # ended meanwhile, a zombie, or another user's
            continue
    return found


def end_all(find: Callable[[], list[int]], steps: Steps) -> None:
    """Signal whatever `find` finds until it finds nothing: for processes that are not our children."""
    for step, grace_s in (*steps, (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + grace_s
        for pid in find():
            _send(pid, step)
        while find():
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def last_lines(log: Path, count: int = 10) -> str:
    """The end of a log, to show why something did not start."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-count:])
