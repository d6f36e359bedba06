"""Running the user's Python program in a forked process, as if it had been started by itself."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import gc
import posix
import sys

from retort_runner import ended, last
from retort_runner.privileges import become_guest, prepare_guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

WORK = "/work"

_OURS = (__file__, last.__file__)

#: Modules that were there before the program. Noted ahead, for to list them is to touch them all.
_before: frozenset[str] = frozenset()


def _streams() -> None:
    """Give the program its own stdin, stdout and stderr on descriptors 0, 1 and 2.

    Lines are written as they are complete: a program that is killed loses none, and readers see it live.
    """
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def _reseed() -> None:
    """Random generators seeded before the fork must not repeat between jobs; `random` sees to itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)
    return 1


def _report(error: BaseException) -> None:
    """Print the traceback as the interpreter would, without our own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.excepthook(type(error), error, trace)


def _finish(code: int, value: Any = None) -> NoReturn:
    """End as the interpreter does, without the milliseconds that taking down every module would cost.

    What a program can see of an orderly end happens: threads are joined, exit handlers run, its objects are
    destroyed (an unclosed file is written out), streams are flushed.
    """
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        last.show(value)
        del value
        atexit._run_exitfuncs()
        # The program's own modules; what it imported from the system holds nothing that waits to be written.
        for name in sys.modules.keys() - _before | {"__main__"}:
            module = sys.modules.get(name)
            if name == "__main__" or (getattr(module, "__file__", None) or "").startswith(WORK):
                vars(module).clear()
        gc.collect()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = code or 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            code = code or 120  # what the interpreter itself gives for this
    ended.tell(code)
    posix._exit(code)


def prepare(rehearsal: str, stdio: list[int]) -> None:
    """Turn this freshly forked process into one that waits for a program.

    `rehearsal` does what programs will do, so that the memory which they touch is copied already; then `stdio`
    become descriptors 0, 1 and 2.
    """
    global _before
    prepare_guest()
    _streams()
    exec(last.split(rehearsal.encode(), "<string>")[0], {"__name__": "__main__"})
    sys.stdout.flush()
    for target, source in enumerate(stdio):
        posix.dup2(source, target)
    _streams()
    _before = frozenset(sys.modules)
    gc.collect()


def execute(uid: int, job: dict[str, Any], code: bytes) -> NoReturn:
    """Become the guest and then a program: `argv` is its path, then its arguments from the name on.

    It gets the environment `environ`; this never comes back. `code` is written to `file`, unless that is
    missing.
    """
    try:
        become_guest(uid)
        posix.chdir(WORK)
        if "file" in job:
            with open(f"{WORK}/{job['file']}", "wb") as file:
                file.write(code)
        for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):  # by Python; a new program inherits that
            _signal.signal(ignored, _signal.SIG_DFL)
        path, *argv = job["argv"]
        posix.execve(path, argv, job["environ"])
    except BaseException as error:  # ours: the program has not begun
        posix.write(2, f"retort: could not start the program: {error!r}\n".encode())
        posix._exit(125)


def run(uid: int, job: dict[str, Any], code: bytes) -> NoReturn:
    """Become the guest, run a program in this prepared process, and end with it."""
    try:
        become_guest(uid)
        posix.chdir(WORK)
        if job["env"]:
            sys.modules["os"].environ.update(job["env"])
        _reseed()
        path = f"{WORK}/{job['file']}"
        with open(path, "wb") as file:
            file.write(code)
        sys.argv = [path, *job["args"]]
        main = type(sys)("__main__")
        main.__file__ = path
        vars(main)["__builtins__"] = __builtins__
        sys.modules["__main__"] = main
    except BaseException as error:  # ours: the program has not begun
        posix.write(2, f"retort: could not start the program: {error!r}\n".encode())
        posix._exit(125)
    status = 0
    value = None
    try:
        program, expression, telling = last.split(code, path)
        exec(program, vars(main))
        if expression is not None:
            value = eval(expression, vars(main))
            if type(value).__module__.partition(".")[0] not in telling:
                value = None
        del program, expression
    except SystemExit as stop:
        status = _exit_code(stop)
    except BaseException as error:
        _report(error)
        status = 1
    _finish(status, value)
