"""Two programs side by side, line by line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from markupsafe import Markup

from api.pages.highlight import lines

#: Equal lines that are shown around a change.
CONTEXT = 3

#: Lines of both programs together beyond which nothing is compared: the time grows with their product.
MOST_LINES = 4000


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the old program beside its counterpart in the new one. Numbers from 1; None for a gap.

    `kind`: equal, changed, added, removed, or folded (then `left` lines were left out).
    """

    kind: str
    left: int | None
    old: Markup
    right: int | None
    new: Markup


def side_by_side(old: str, new: str, language: str) -> list[Row] | None:
    """The rows to show; none where nothing differs. None where the programs are too long to compare."""
    before, after = old.splitlines(), new.splitlines()
    if len(before) + len(after) > MOST_LINES:
        return None
    if before == after:
        return []
    shown_old, shown_new = lines("\n".join(before), language), lines("\n".join(after), language)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    rows: list[Row] = []
    at = 0
    for group in matcher.get_grouped_opcodes(CONTEXT):
        if group[0][1] > at:
            rows.append(Row("folded", group[0][1] - at, Markup(""), None, Markup("")))
        for kind, *span in group:
            rows += _rows(kind, span, shown_old, shown_new)
        at = group[-1][2]
    if at < len(before):
        rows.append(Row("folded", len(before) - at, Markup(""), None, Markup("")))
    return rows


def _rows(kind: str, span: Sequence[int], old: list[Markup], new: list[Markup]) -> Iterator[Row]:
    i, i_end, j, j_end = span
    while i < i_end or j < j_end:
        left, right = i < i_end, j < j_end
        named = "equal" if kind == "equal" else "changed" if left and right else "removed" if left else "added"
        yield Row(
            named,
            i + 1 if left else None,
            old[i] if left else Markup(""),
            j + 1 if right else None,
            new[j] if right else Markup(""),
        )
        i, j = i + left, j + right
