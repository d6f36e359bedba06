"""Charts as SVG for the page of a report: pygal draws, the page's own style sheet colours.

What pygal adds beside shapes and texts (styles, scripts, tooltips, references to its home) is taken out: the
page loads nothing and runs nothing.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pygal
from markupsafe import Markup

from retort.bench.stats import percentile

_DROPPED = frozenset({"defs", "desc", "script", "style", "title"})
_COMMON = {
    "js": (),
    "css": (),
    "width": 720,
    "height": 280,
    "explicit_size": False,
    "disable_xml_declaration": True,
    "no_data_text": "nothing known",
    "truncate_label": -1,
    "show_legend": False,
    "margin": 6,
    "max_scale": 6,
}

Points = Sequence[float | None]


def bars(labels: Sequence[str], series: Mapping[str, Points], formatter: Callable[[float], str]) -> Markup:
    """Groups of bars, one bar for each series."""
    chart = pygal.Bar(**_COMMON, x_labels=list(labels), value_formatter=formatter)
    for name, values in series.items():
        chart.add(name, list(values))
    return _drawn(chart)


def shares(series: Mapping[str, Sequence[float]], formatter: Callable[[float], str]) -> Markup:
    """For each series the share of values (in per cent) that are at most so large."""
    chart = pygal.XY(
        **_COMMON,
        stroke=True,
        dots_size=1,
        value_formatter=lambda share: f"{share:g} %",
        x_value_formatter=formatter,
    )
    for name, values in series.items():
        ordered = sorted(values)
        steps = [(value, 100 * (at + 1) / len(ordered)) for at, value in enumerate(ordered)]
        chart.add(name, [(ordered[0], 0.0), *steps] if ordered else [])
    return _drawn(chart)


def latencies(series: Mapping[str, Sequence[float]], formatter: Callable[[float], str]) -> Markup:
    """Percentiles of each series, as far as they are known."""
    percents = (50, 95, 99)
    points = {name: [percentile(values, percent) for percent in percents] for name, values in series.items()}
    return bars([f"p{percent}" for percent in percents], points, formatter)


def _drawn(chart: Any) -> Markup:
    root = chart.render_tree()
    _clean(root)
    for name in ("id", "class"):
        root.attrib.pop(name, None)
    root.set("class", "chart")
    root.set("aria-hidden", "true")  # the tables say the same
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 (a serialised tree: texts are escaped)


def _clean(element: Any) -> None:
    """Leave shapes, texts, and the classes that tell which series a shape is of."""
    element.attrib.pop("style", None)
    for child in list(element):
        tag = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
        if tag in _DROPPED or not tag or "tooltip-overlay" in child.get("class", ""):
            element.remove(child)
        else:
            _clean(child)
