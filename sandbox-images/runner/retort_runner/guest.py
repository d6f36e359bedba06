"""Running the user's Python program in a freshly forked process, as if it had been started by itself."""

import atexit
import gc
import os
import signal
import sys
import threading
import types
from typing import Any, NoReturn

from retort_runner.privileges import become_guest

WORK = "/work"


def _streams() -> None:
    """Give the program its own stdin, stdout and stderr on descriptors 0, 1 and 2.

    Lines are written as they are complete: a program that is killed loses none, and readers see it live.
    """
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def _forget_runner() -> None:
    """Leave nothing of ours where the program looks for modules."""
    for name in [n for n in sys.modules if n == "__main__" or n.split(".", 1)[0] == "retort_runner"]:
        del sys.modules[name]
    sys.path[0] = WORK  # was the runner's folder


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
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.excepthook(type(error), error, trace)


def _finish(code: int, before: frozenset[str]) -> NoReturn:
    """End as the interpreter does, without the milliseconds that taking down every module would cost.

    What a program can see of an orderly end happens: threads are joined, exit handlers run, its objects are
    destroyed (an unclosed file is written out), streams are flushed.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for name, module in list(sys.modules.items()):
            if name == "__main__" or (name not in before and getattr(module, "__file__", "") is not None):
                file = getattr(module, "__file__", "") or ""
                if name == "__main__" or file.startswith(WORK):
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
    os._exit(code)


def run(job: dict[str, Any], code: bytes, stdio: tuple[int, int, int]) -> NoReturn:
    """Never returns. `stdio` are the descriptors that become 0, 1 and 2; every other one is closed."""
    try:
        for target, source in enumerate(stdio):
            os.dup2(source, target)
        os.closerange(3, 1 << 16)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        become_guest(job["uid"], job["rlimits"])
        os.chdir(WORK)
        os.environ.pop("HOSTNAME", None)
        os.environ.update({"HOME": WORK, "PWD": WORK, "USER": "guest", "LOGNAME": "guest", **job["env"]})
        _streams()
        _reseed()
        path = os.path.join(WORK, job["file"])
        with open(path, "wb") as file:
            file.write(code)
        sys.argv = [path, *job["args"]]
        _forget_runner()
        main = types.ModuleType("__main__")
        main.__file__ = path
        vars(main)["__builtins__"] = __builtins__
        sys.modules["__main__"] = main
        before = frozenset(sys.modules)
    except BaseException as error:  # ours: the program has not begun
        os.write(2, f"retort: could not start the program: {error!r}\n".encode())
        os._exit(125)
    status = 0
    try:
        exec(compile(code, path, "exec", dont_inherit=True), vars(main))
    except SystemExit as stop:
        status = _exit_code(stop)
    except BaseException as error:
        _report(error)
        status = 1
    _finish(status, before)
