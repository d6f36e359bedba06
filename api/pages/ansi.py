"""Colours of terminals as classes of HTML. Whatever else a terminal would do is left out.

>>> str(ansi("\\x1b[1;31mred\\x1b[0m <b>"))
'<span class="a-bold a-fg1">red</span> &lt;b&gt;'
>>> str(ansi("a\\x1b]8;;http://x\\x07link\\x1b]8;;\\x07\\x1b[2Jb"))
'alinkb'
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

#: Colours are group 1; other sequences, and control characters that are no white space, match without it.
_ESCAPE = re.compile(
    r"\x1b\[([0-9;:]{0,64})m"
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
)
#: Characters that make text look as if it stood in another order.
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")
_STEPS = (0, 95, 135, 175, 215, 255)
_BASE = (
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
)


@dataclass(frozen=True, slots=True)
class Look:
    """How text looks: colours from 0 to 15, or None."""

    fg: int | None = None
    bg: int | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False
    strike: bool = False

    def classes(self) -> str:
        """Its classes."""
        fg, bg = (self.bg, self.fg) if self.inverse else (self.fg, self.bg)
        names = [name for name in ("bold", "dim", "italic", "underline", "strike") if getattr(self, name)]
        if self.inverse and fg is None and bg is None:
            names.append("inverse")
        names += [f"fg{fg}"] if fg is not None else []
        names += [f"bg{bg}"] if bg is not None else []
        return " ".join(f"a-{name}" for name in names)


_SWITCHES = {
    1: {"bold": True}, 2: {"dim": True}, 3: {"italic": True}, 4: {"underline": True}, 7: {"inverse": True},
    9: {"strike": True}, 22: {"bold": False, "dim": False}, 23: {"italic": False}, 24: {"underline": False},
    27: {"inverse": False}, 29: {"strike": False}, 39: {"fg": None}, 49: {"bg": None},
}  # fmt: skip


def ansi(text: str) -> Markup:
    """A terminal's text as HTML in which only our own classes are markup."""
    parts = []
    for piece, look in _pieces(text):
        classes = look.classes()
        shown = escape(_TURNED.sub("\ufffd", piece))
        parts.append(Markup('<span class="{}">{}</span>').format(classes, shown) if classes else shown)
    return Markup("").join(parts)


def _pieces(text: str) -> Iterator[tuple[str, Look]]:
    """Runs of text that look the same."""
    look, at, waiting = Look(), 0, ""
    for found in _ESCAPE.finditer(text):
        waiting += text[at : found.start()]
        at = found.end()
        if found[1] is None:
            continue
        changed = _change(look, found[1])
        if changed != look and waiting:
            yield waiting, look
            waiting = ""
        look = changed
    if waiting or at < len(text):
        yield waiting + text[at:], look


def _change(look: Look, codes: str) -> Look:
    numbers = [int(code[:6] or "0") for code in codes.replace(":", ";").split(";")]
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            look = Look()
        elif code in _SWITCHES:
            look = replace(look, **_SWITCHES[code])  # type: ignore[arg-type]
        elif code in (38, 48):
            colour = _extended(numbers)
            look = replace(look, fg=colour) if code == 38 else replace(look, bg=colour)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            look = replace(look, fg=code - 30 if code < 90 else code - 82)
        elif 40 <= code <= 47 or 100 <= code <= 107:
            look = replace(look, bg=code - 40 if code < 100 else code - 92)
    return look


def _extended(numbers: list[int]) -> int | None:
    """A colour of 256 or of 16 million as the nearest of 16."""
    kind = numbers.pop(0) if numbers else 0
    if kind == 5 and numbers:
        index = numbers.pop(0)
        if index < 16:
            return index
        if index < 232:
            index -= 16
            return _nearest(_STEPS[index // 36], _STEPS[index // 6 % 6], _STEPS[index % 6])
        return _nearest(*[8 + 10 * (min(index, 255) - 232)] * 3)
    if kind == 2 and len(numbers) >= 3:
        red, green, blue = numbers[:3]
        del numbers[:3]
        return _nearest(red, green, blue)
    numbers.clear()
    return None


def _nearest(red: int, green: int, blue: int) -> int:
    return min(
        range(8), key=lambda i: sum((a - b) ** 2 for a, b in zip(_BASE[i], (red, green, blue), strict=True))
    )
