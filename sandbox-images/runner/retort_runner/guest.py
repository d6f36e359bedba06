"""Running the user's Python program in a forked process, as if it had been started by itself."""

from __future__ import annotations

import _ast
import atexit
import gc
import posix
import sys

from retort_runner.privileges import become_guest, prepare_guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

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


#: Of these a last expression's value is worth telling; their modules are compared, nothing is imported.
_TELLING = ("builtins", "numpy", "pandas", "matplotlib", "seaborn", "PIL")

#: A program's last line that begins so is no expression, or has no value.
_SILENT = (
    b"print(", b"def ", b"class ", b"if ", b"else", b"elif ", b"for ", b"while ", b"with ", b"try", b"except",
    b"finally", b"import ", b"from ", b"return", b"raise", b"pass", b"del ", b"assert ", b"@", b"async ",
)  # fmt: skip

#: Bytes of a program whose last expression is looked for: reading a tree takes a millisecond for each 5 KB.
_SMALL = 1 << 15

ONLY_AST = 0x400  # ast.PyCFONLY_AST
_FUTURES = 0x1FE0000  # the flags of all `from __future__` imports


def _last_line(code: bytes) -> bytes:
    end = len(code)
    for _ in range(8):
        line = code[code.rfind(b"\n", 0, end) + 1 : end]
        if line.strip() and line[:1] != b"#":
            return line
        end -= len(line) + 1
        if end <= 0:
            break
    return b""


def _compile(code: bytes, path: str) -> tuple[Any, Any]:
    """The program and, apart from it, its last statement where that is an expression that may have a value.

    Both have the line numbers of the whole. What does not compile is left to be told as always.
    """
    last = _last_line(code) if len(code) <= _SMALL else b""
    if last and not last[:1].isspace() and not last.startswith(_SILENT):
        try:
            tree: Any = compile(code, path, "exec", ONLY_AST, dont_inherit=True)
            end = tree.body[-1]
            if type(end).__name__ == "Expr" and type(end.value).__name__ != "Constant":
                tree.body.pop()
                program = compile(tree, path, "exec", dont_inherit=True)
                expression = _ast.Expression(end.value)
                flags = program.co_flags & _FUTURES
                return program, compile(expression, path, "eval", flags, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, IndexError):
            pass
    return compile(code, path, "exec", dont_inherit=True), None


def _show(value: Any) -> None:
    """Make files of what the program shows: figures left open, the value of its last expression."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    display = sys.modules.get("retort_display")
    try:
        if value is not None or (pyplot and pyplot.get_fignums()) or (display and display.shown):
            __import__("retort_display").finish(value)
    except BaseException:
        return  # a courtesy: what goes wrong here is not the program's failure


def _finish(code: int, before: frozenset[str], value: Any = None) -> NoReturn:
    """End as the interpreter does, without the milliseconds that taking down every module would cost.

    What a program can see of an orderly end happens: threads are joined, exit handlers run, its objects are
    destroyed (an unclosed file is written out), streams are flushed.
    """
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        _show(value)
        del value
        atexit._run_exitfuncs()
        # The program's own modules; what it imported from the system holds nothing that waits to be written.
        for name in sys.modules.keys() - before | {"__main__"}:
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
    posix._exit(code)


def prepare() -> None:
    """Turn this freshly forked process into one that waits for a program; rehearses what the program needs."""
    prepare_guest()
    _streams()
    exec(_compile(b"print(end='')", "<string>")[0], {"__name__": "__main__"})
    sys.stdout.flush()
    gc.collect()


def run(uid: int, job: dict[str, Any], code: bytes, stdio: list[int]) -> NoReturn:
    """Become the guest, run a program in this prepared process, and end with it.

    `stdio` are the descriptors that become 0, 1 and 2; every other one is closed.
    """
    try:
        for target, source in enumerate(stdio):
            posix.dup2(source, target)
        posix.closerange(3, 1 << 16)
        become_guest(uid)
        posix.chdir(WORK)
        _streams()
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
        before = frozenset(sys.modules)
    except BaseException as error:  # ours: the program has not begun
        posix.write(2, f"retort: could not start the program: {error!r}\n".encode())
        posix._exit(125)
    status = 0
    value = None
    try:
        program, last = _compile(code, path)
        exec(program, vars(main))
        if last is not None:
            value = eval(last, vars(main))
            if type(value).__module__.partition(".")[0] not in _TELLING:
                value = None
        del program, last
    except SystemExit as stop:
        status = _exit_code(stop)
    except BaseException as error:
        _report(error)
        status = 1
    _finish(status, before, value)
