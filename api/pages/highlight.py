"""Code with syntax colours, as classes."""

from typing import Any

from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

#: Longer code is shown without colours: lexers look at every character.
MOST_COLOURED = 100_000

_FORMATTER: HtmlFormatter[str] = HtmlFormatter(nowrap=True)
_LIGHT, _DARK = "default", "github-dark"
_NAMES = {"r": "splus"}


def coloured(code: str, language: str) -> Markup:
    """Code as HTML; what no lexer knows, or is too long, without colours. A version after @ is passed over."""
    language = language.partition("@")[0]
    if len(code) <= MOST_COLOURED:
        try:
            lexer = get_lexer_by_name(_NAMES.get(language, language), stripnl=False, ensurenl=False)
        except ClassNotFound:
            return escape(code)
        return Markup(highlight(code, lexer, _FORMATTER))  # noqa: S704 (the formatter escapes)
    return escape(code)


def lines(code: str, language: str) -> list[Markup]:
    """Its lines; the lexers close every span at the end of a line."""
    html = coloured(code, language).split("\n")[: code.count("\n") + 1]  # the formatter ends the last one, too
    return [Markup(line) for line in html]  # noqa: S704 (as above)


def stylesheet() -> str:
    """The colours, for light and for dark."""
    light, dark = _rules(_LIGHT), _rules(_DARK)
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _rules(style: str) -> str:
    formatter: HtmlFormatter[Any] = HtmlFormatter(style=style)
    rules = str(formatter.get_style_defs(".code")).split("\n")  # type: ignore[no-untyped-call]
    # Only what colours tokens: the ground and the lines are ours.
    return "\n".join(rule for rule in rules if rule.startswith(".code .") and "/*" in rule)
