"""Kinds of failures, told from what interpreters print, and what a person would advise for each. Pure."""

import re
from dataclasses import dataclass

from domain.states import Verdict


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of failure it was, in words, and advice; either may be empty."""

    name: str
    advice: str = ""


_ENCODING = (
    "Name the encoding wherever bytes become text: UTF-8, and for CSV files utf-8-sig, which also takes a "
    "byte order mark. Never assume ASCII. Decode base64 strictly, and encode text as UTF-8 before encoding "
    "it as base64."
)
_RECURSION = (
    "Rewrite the recursion as a loop with a stack of its own. Only where the depth is known and moderate "
    "raise the recursion limit, in Python with sys.setrecursionlimit(10000)."
)
_MODULE = (
    "There is no network and nothing can be installed: use the standard library or what is listed as there."
)
_FILE = "Only files that the task names exist, and those that the program makes itself in its working folder."
_JSON = "Write JSON with the language's JSON library only, one document, with nothing printed beside it."

#: Per language, in the order of asking: what is looked for in stderr, and what it says.
_SIGNS: dict[str, tuple[tuple[str, Kind], ...]] = {
    "python": (
        (r"^\s*(?:IndentationError|TabError|SyntaxError):", Kind("syntax error: the program did not start")),
        (r"^AssertionError", Kind("a failed assertion")),
        (r"^(?:ModuleNotFoundError|ImportError):", Kind("an import that is not there", _MODULE)),
        (r"^NameError:", Kind("a name that is not defined", "Is an import or a definition missing?")),
        (r"^Unicode\w*Error:|^binascii\.Error:", Kind("an encoding error", _ENCODING)),
        (r"^(?:json\.decoder\.)?JSONDecodeError:", Kind("text that is not JSON", _JSON)),
        (r"^RecursionError:", Kind("recursion that is too deep", _RECURSION)),
        (r"^MemoryError", Kind("a failed allocation of memory")),
        (r"^FileNotFoundError:|^PermissionError:", Kind("a file that cannot be used", _FILE)),
        (
            r"^EOFError:",
            Kind("no input", "Standard input holds only what the task gives, which may be nothing."),
        ),
        (r"^[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b", Kind("an exception that nobody caught")),
    ),
    "javascript": (
        (r"^SyntaxError:", Kind("syntax error: the program did not start")),
        (r"AssertionError", Kind("a failed assertion")),
        (r"Cannot find (?:module|package)", Kind("a module that is not there", _MODULE)),
        (r"^ReferenceError:", Kind("a name that is not defined", "Is a require or a definition missing?")),
        (r"Maximum call stack size", Kind("recursion that is too deep", _RECURSION)),
        (r"JavaScript heap out of memory|Invalid (?:string|array) length", Kind("not enough memory")),
        (r"ENOENT|EACCES|EROFS", Kind("a file that cannot be used", _FILE)),
        (r"JSON(?:\.parse| at position)", Kind("text that is not JSON", _JSON)),
        (r"^\s*(?:Uncaught )?\w*Error\b", Kind("an exception that nobody caught")),
    ),
    "bash": (
        (r"syntax error|unexpected EOF", Kind("syntax error")),
        (r"command not found", Kind("a command that is not there", _MODULE)),
        (r"unbound variable", Kind("a variable that is not set")),
        (r"No such file or directory|Permission denied|Read-only file system", Kind("a file", _FILE)),
    ),
    "r": (
        (r"unexpected (?:symbol|end of input|string|numeric|'|INCOMPLETE)", Kind("syntax error")),
        (r"there is no package called", Kind("a package that is not there", _MODULE)),
        (r"object '.*' not found|could not find function", Kind("a name that is not defined")),
        (r"cannot allocate", Kind("not enough memory")),
        (
            r"infinite recursion|node stack overflow|C stack usage",
            Kind("recursion that is too deep", _RECURSION),
        ),
        (r"cannot open (?:the connection|file)", Kind("a file that cannot be used", _FILE)),
        (r"^Error\b", Kind("an error that nobody caught")),
    ),
    "rust": (
        (r"^error(?:\[E\d+\])?:", Kind("a compiler error: the program did not start")),
        (r"assertion .*failed", Kind("a failed assertion")),
        (r"stack overflow", Kind("recursion that is too deep", _RECURSION)),
        (r"panicked at", Kind("a panic")),
    ),
}

_COMPILED = {
    language: tuple((re.compile(pattern, re.MULTILINE), kind) for pattern, kind in signs)
    for language, signs in _SIGNS.items()
}

_TIMEOUT = (
    "Find the part that takes longest and make it cheaper: a better algorithm instead of a faster loop, "
    "results kept instead of computed again, iteration instead of deep recursion. Look for a loop that "
    "never ends and for input that never comes. Read large data in chunks of 10,000 rows, print what is "
    "known after each, and where a chunk fails halve it and go on with the rest; skip no row and repeat the "
    "header for each chunk."
)
_MEMORY = {
    "": (
        "Hold less at a time: read and work through data in chunks of at most 50,000 rows, keep only "
        "running results, use generators or streams instead of lists, and compact number types."
    ),
    "python": " Delete what is no longer needed with del and call gc.collect() after each chunk.",
    "r": " Remove what is no longer needed with rm() and call gc() after each chunk.",
    "javascript": " Let go of what is no longer needed, and stream instead of reading whole files.",
    "rust": " Drop what is no longer needed, and give capacities instead of letting buffers double.",
}
_OUTPUT = "Print only the result that the task asks for: no progress, no tables of everything, no debugging."

_BY_VERDICT = {
    Verdict.OUTPUT_LIMIT: Kind("it printed too much", _OUTPUT),
    Verdict.DISK_LIMIT: Kind(
        "it filled its working folder", "Write less, and delete files that are done with."
    ),
    Verdict.SIGNALLED: Kind(
        "a signal ended it",
        "A crash of the interpreter or of native code: look for invalid memory, and for signals sent to "
        "itself.",
    ),
}


def kind_of(language: str, verdict: str, stderr: str, *, silent: bool = False) -> Kind:
    """What kind of failure it was; `silent` is one that ended well and gave nothing."""
    if silent:
        return Kind("it gave nothing", "Call what you define, and print the result.")
    if verdict == Verdict.TIMEOUT:
        return Kind("it was still running at its time limit", _TIMEOUT)
    if verdict == Verdict.OUT_OF_MEMORY:
        return Kind("it used more memory than it may", _MEMORY[""] + _MEMORY.get(language, ""))
    if verdict in _BY_VERDICT:
        return _BY_VERDICT[Verdict(verdict)]
    last = None
    for pattern, kind in _COMPILED.get(language, ()):
        if pattern.search(stderr):
            last = kind
            break
    if last is not None:
        return last
    if verdict == Verdict.COMPILE_ERROR:
        return Kind("it did not compile")
    if verdict == Verdict.CHECK_FAILED:
        return Kind("the result is not the expected one")
    return Kind("it ended with an error")
