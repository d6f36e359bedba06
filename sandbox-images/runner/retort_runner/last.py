"""What a Python program shows at its end: the value of its last expression, and figures that it left open.

The user's code runs as it is: a last statement that is an expression is compiled apart from the rest and
evaluated in its turn, with the line numbers of the whole.
"""

from __future__ import annotations

import _ast
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Values of these modules' types are worth telling, and those of plain types unless a call gave them: what
#: `f.write()` returns is nobody's result. Names are compared, nothing is imported.
_RICH = ("pandas", "matplotlib", "seaborn", "PIL")
_PLAIN = ("builtins", "numpy")

#: A program's last line that begins so is no expression, or has no value.
_SILENT = (
    b"print(", b"def ", b"class ", b"if ", b"else", b"elif ", b"for ", b"while ", b"with ", b"try", b"except",
    b"finally", b"import ", b"from ", b"return", b"raise", b"pass", b"del ", b"assert ", b"@", b"async ",
)  # fmt: skip

#: Bytes of a program whose last expression is looked for: reading a tree takes a millisecond for each 5 KB.
_SMALL = 1 << 15

ONLY_AST = 0x400  # ast.PyCF_ONLY_AST
_FUTURES = 0x1FE0000  # the flags of all `from __future__` imports


def _last_line(code: bytes) -> bytes:
    """The last line with something other than a comment in it, if it is near the end."""
    end = len(code)
    for _ in range(8):
        line = code[code.rfind(b"\n", 0, end) + 1 : end]
        if line.strip() and line[:1] != b"#":
            return line
        end -= len(line) + 1
        if end <= 0:
            break
    return b""


def split(code: bytes, path: str) -> tuple[Any, Any, tuple[str, ...]]:
    """The program, its last expression if it has one, and the modules whose types are worth telling.

    What does not compile is left to be told as always.
    """
    line = _last_line(code) if len(code) <= _SMALL else b""
    if line and not line[:1].isspace() and not line.startswith(_SILENT):
        try:
            tree: Any = compile(code, path, "exec", ONLY_AST, dont_inherit=True)
            end = tree.body[-1]
            if type(end).__name__ == "Expr" and type(end.value).__name__ != "Constant":
                tree.body.pop()
                program = compile(tree, path, "exec", dont_inherit=True)
                flags = program.co_flags & _FUTURES
                expression = compile(_ast.Expression(end.value), path, "eval", flags, dont_inherit=True)
                telling = _RICH if type(end.value).__name__ == "Call" else _RICH + _PLAIN
                return program, expression, telling
        except (SyntaxError, ValueError, RecursionError, MemoryError, IndexError):
            pass
    return compile(code, path, "exec", dont_inherit=True), None, ()


def show(value: Any) -> None:
    """Make files of what the program shows: figures left open, the value of its last expression."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    display = sys.modules.get("retort_display")
    try:
        if value is not None or (pyplot and pyplot.get_fignums()) or (display and display.shown):
            __import__("retort_display").finish(value)
    except BaseException:
        return  # a courtesy: what goes wrong here is not the program's failure
