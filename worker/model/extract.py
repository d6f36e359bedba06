"""The program in a model's answer. Pure; a real Markdown parser reads the answer.

The model is told the rule: the last fenced block in the wanted language is the program. What has no such block
has no program; nothing is taken by guess.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from markdown_it import MarkdownIt

#: What a fence may say for each language, in lower case.
TAGS: dict[str, frozenset[str]] = {
    "python": frozenset({"python", "py", "python3", "py3"}),
    "javascript": frozenset({"javascript", "js", "node", "nodejs", "cjs", "mjs"}),
    "bash": frozenset({"bash", "sh", "shell", "zsh"}),
    "r": frozenset({"r", "rscript"}),
    "rust": frozenset({"rust", "rs"}),
}

#: Fences in which a model wraps a whole answer.
_WRAPPERS = frozenset({"markdown", "md"})

_TAG = re.compile(r"[A-Za-z0-9_+#-]+")
_DIFF = re.compile(r"^(diff --git |@@ -\d|--- \S.*\n\+\+\+ \S)", re.MULTILINE)

# Fences are blocks; what is within a line need not be read.
_parser = MarkdownIt("commonmark")
_parser.core.ruler.enableOnly(["normalize", "block"])


class Problem(StrEnum):
    """Why an answer has no program."""

    EMPTY = "empty"  # the answer, or the block, holds nothing
    PROSE = "prose"  # there is no fenced block
    WRONG_LANGUAGE = "wrong_language"  # there are blocks, none in the wanted language
    DIFF = "diff"  # a change to a program, not a program
    UNLABELLED = "unlabelled"  # several blocks, none says its language
    CUT_OFF = "cut_off"  # it ended before the program did
    REFUSED = "refused"  # the model refused, or was held back
    TOO_LONG = "too_long"  # longer than we search


@dataclass(frozen=True, slots=True)
class Extracted:
    """A program, or why there is none; `seen` are the languages of the blocks that were there."""

    code: str | None
    problem: Problem | None = None
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Block:
    tag: str  # "" where the fence says nothing
    content: str
    closed: bool


def extract(answer: str, language: str, *, cut: bool, most: int = 2**20) -> Extracted:
    """The program in `language`; `cut` says that the model was stopped before it had finished."""
    if len(answer) > most:
        return Extracted(None, Problem.TOO_LONG)
    if not answer.strip():
        return Extracted(None, Problem.CUT_OFF if cut else Problem.EMPTY)
    blocks = list(_blocks(answer))
    seen = tuple(dict.fromkeys(block.tag for block in blocks if block.tag))
    found = _choose(blocks, TAGS.get(language, frozenset({language})))
    if isinstance(found, Problem):
        # What is cut off may have been about to begin.
        return Extracted(None, Problem.CUT_OFF if cut else found, seen)
    if cut and not found.closed:
        return Extracted(None, Problem.CUT_OFF, seen)
    if not found.content.strip():
        return Extracted(None, Problem.EMPTY, seen)
    if _DIFF.search(found.content) and found.tag == "":
        return Extracted(None, Problem.DIFF, seen)
    return Extracted(found.content if found.content.endswith("\n") else found.content + "\n", None, seen)


def _choose(blocks: list[_Block], wanted: frozenset[str]) -> _Block | Problem:
    if not blocks:
        return Problem.PROSE
    fitting = [block for block in blocks if block.tag in wanted]
    if fitting:
        return fitting[-1]
    if any(block.tag in ("diff", "patch") for block in blocks):
        return Problem.DIFF
    silent = [block for block in blocks if not block.tag]
    if len(blocks) == 1 and silent:
        return silent[0]
    return Problem.UNLABELLED if len(silent) == len(blocks) else Problem.WRONG_LANGUAGE


def _blocks(text: str, depth: int = 0) -> Iterator[_Block]:
    lines = text.splitlines()
    for token in _parser.parse(text):
        if token.type != "fence" or token.map is None:
            continue
        named = _TAG.search(token.info)
        tag = named[0].lower() if named else ""
        start, end = token.map
        fence = f"{re.escape(token.markup[0])}{{{len(token.markup)},}}"
        last = lines[end - 1] if end - 1 < len(lines) else ""
        closed = end - 1 > start and re.fullmatch(rf"[\s>]*{fence}\s*", last) is not None
        if tag in _WRAPPERS and depth == 0:
            yield from _blocks(token.content, depth + 1)
        elif tag or token.content.strip() or closed:
            yield _Block(tag, token.content, closed)
