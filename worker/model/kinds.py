"""Kinds of failures, and what a person would advise for each. Pure."""

import re
from collections.abc import Mapping

from domain.states import Verdict
from worker.model import signs
from worker.model.signs import Kind, Signs

_Compiled = dict[str, tuple[tuple[re.Pattern[str], Kind], ...]]


def _compiled(all_signs: Mapping[str, Signs]) -> _Compiled:
    return {
        language: tuple((re.compile(pattern, re.MULTILINE), kind) for pattern, kind in found)
        for language, found in all_signs.items()
    }


_STDERR = _compiled(signs.STDERR)
_STDOUT = _compiled(signs.STDOUT)

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
    "bash": " Let programs read files line by line instead of holding text in variables.",
    "rust": " Drop what is no longer needed, and give capacities instead of letting buffers double.",
}
_OUTPUT = "Print only the result that the task asks for: no progress, no tables of everything, no debugging."
_SAYING_NOTHING = {
    "": "Say on standard error why it ends so; where nothing is wrong end with exit code 0.",
    "bash": (
        "After set -e the first command that fails ends the shell, often without a word: grep that finds "
        "nothing, a [ … ] that is false, (( … )) that gives 0, diff. Write || true where that is no error."
    ),
}

_BY_VERDICT = {
    Verdict.OUTPUT_LIMIT: Kind("it printed too much", _OUTPUT),
    Verdict.DISK_LIMIT: Kind(
        "it filled its working folder", "Write less, and delete files that are done with."
    ),
}
_SIGNALLED = Kind(
    "a signal ended it",
    "A crash of the interpreter or of native code: look for invalid memory, and for signals sent to itself.",
)


def kind_of(language: str, verdict: str, stderr: str, stdout: str = "", *, silent: bool = False) -> Kind:
    """What kind of failure it was; `silent` is one that ended well and gave nothing."""
    if silent:
        return Kind("it gave nothing", "Call what you define, and print the result.")
    if verdict == Verdict.TIMEOUT:
        return Kind("it was still running at its time limit", _TIMEOUT)
    if verdict == Verdict.OUT_OF_MEMORY:
        return Kind("it used more memory than it may", _MEMORY[""] + _MEMORY.get(language, ""))
    if verdict in _BY_VERDICT:
        return _BY_VERDICT[Verdict(verdict)]
    found = _first(_STDERR, language, stderr)
    if found is None and verdict == Verdict.CHECK_FAILED:
        found = _first(_STDOUT, language, stdout)
    return found or _by_ending(language, verdict, stderr)


def _first(known: _Compiled, language: str, text: str) -> Kind | None:
    return next((kind for pattern, kind in known.get(language, ()) if pattern.search(text)), None)


def _by_ending(language: str, verdict: str, stderr: str) -> Kind:
    if verdict == Verdict.SIGNALLED:
        return _SIGNALLED
    if verdict == Verdict.COMPILE_ERROR:
        return Kind("it did not compile")
    if verdict == Verdict.CHECK_FAILED:
        return Kind("the result is not the expected one")
    if not stderr.strip():
        advice = _SAYING_NOTHING.get(language, _SAYING_NOTHING[""])
        return Kind("it ended with an error and did not say why", advice)
    return Kind("it ended with an error")
