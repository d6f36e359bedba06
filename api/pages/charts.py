"""Charts as SVG within a page: pygal draws them, our style sheet colours them.

What pygal adds for looks and for scripts (styles, a configuration, tooltips) is taken out: pages allow nothing
inline. Each chart comes with a table of its values; whoever has the page read aloud gets that table alone.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pygal
from markupsafe import Markup

Values = Sequence[float | None]

_SVG = "{http://www.w3.org/2000/svg}"
_DROPPED = frozenset({"defs", "title", "desc", "script", "style"})
_COMMON = {
    "js": (),
    "css": (),
    "explicit_size": False,
    "disable_xml_declaration": True,
    "no_data_text": "nothing yet",
    "truncate_label": -1,
    "margin": 4,
    "max_scale": 5,
}


class _Bare:
    """Draws no tooltips: they would be taken out again, and cost as much as all the rest."""

    def __getattribute__(self, name: str) -> Any:
        """As pygal has it (what it keeps while it draws goes before the chart's own), but sooner."""
        get = object.__getattribute__
        state = None if name.startswith("__") else get(self, "__dict__").get("state")
        if state is not None and name != "state" and name in (kept := state.__dict__):
            return kept[name]
        return get(self, name)

    def _tooltip_data(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def _tooltip_and_print_values(self, *_: Any, **__: Any) -> None:
        """Nothing: values are in the table beside the chart."""


class _Bars(_Bare, pygal.StackedBar):  # type: ignore[misc]  # pygal has no types
    """Stacked bars."""


class _Lines(_Bare, pygal.Line):  # type: ignore[misc]  # pygal has no types
    """Lines."""


def bars(
    labels: Sequence[str],
    series: Mapping[str, Values],
    tones: Sequence[str],
    *,
    formatter: Callable[[float], str] = lambda value: f"{value:g}",
    every: int = 1,
) -> Markup:
    """Bars stacked upon each other, a colour for each series; one label in `every` is written."""
    chart = _Bars(
        **_COMMON,
        width=720,
        height=220,
        show_legend=False,
        x_labels=list(labels),
        x_labels_major_every=every,
        show_minor_x_labels=every == 1,
        value_formatter=formatter,
    )
    return _drawn(chart, series, tones)


def lines(
    labels: Sequence[str],
    series: Mapping[str, Values],
    tones: Sequence[str],
    *,
    formatter: Callable[[float], str],
    every: int = 1,
) -> Markup:
    """Lines over common labels."""
    chart = _Lines(
        **_COMMON,
        width=720,
        height=220,
        show_legend=False,
        x_labels=list(labels),
        x_labels_major_every=every,
        show_minor_x_labels=every == 1,
        dots_size=3,
        include_x_axis=True,
        value_formatter=formatter,
    )
    return _drawn(chart, series, tones)


def spark(series: Mapping[str, Values], tones: Sequence[str]) -> Markup:
    """Bars so small that they need no axis."""
    chart = _Bars(
        **{**_COMMON, "margin": 0},
        width=240,
        height=36,
        show_legend=False,
        show_x_labels=False,
        show_y_labels=False,
        show_y_guides=False,
    )
    return _drawn(chart, series, tones)


def _drawn(chart: Any, series: Mapping[str, Values], tones: Sequence[str]) -> Markup:
    for name, values in series.items():
        chart.add(name, list(values))
    root = chart.render_tree()
    _clean(root, dict(enumerate(tones)))
    for name in ("id", "class"):
        root.attrib.pop(name, None)
    root.set("class", "chart")
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 (a serialised tree: texts are escaped)


def _clean(element: Any, tones: Mapping[int, str]) -> None:
    """Take out what is neither shape nor text, and name colours after what they mean."""
    element.attrib.pop("style", None)
    classes = element.get("class", "").split()
    for name in classes:
        if name.startswith("color-"):
            element.set("class", f"series t-{tones.get(int(name[6:]), 'quiet')}")
    for child in list(element):
        tag = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
        if tag in _DROPPED or not tag or "tooltip-overlay" in child.get("class", ""):
            element.remove(child)
        else:
            _clean(child, tones)
