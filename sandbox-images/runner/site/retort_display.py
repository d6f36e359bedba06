"""What a Python program shows, made into files: figures, tables, and the value of its last expression.

Matplotlib knows this module as its backend: `plt.show()` saves what is open and closes it, as a reader closes
a window. The runner calls `finish` at the end of a program that left figures open or whose last expression is
worth telling; then what was shown is described in `.retort/results.json` in the work folder. That file is the
program's like any other and is believed no more than its output. What is needed is imported when it is needed.
"""

from __future__ import annotations

import json
import os
import warnings
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

WORK = "/work"
RESULTS = f"{WORK}/.retort/results.json"

MOST_RESULTS = 24
MOST_AXES = 12
MOST_SERIES = 24
MOST_POINTS = 500
MOST_ROWS = 100
MOST_COLUMNS = 50
MOST_TEXT = 200
MOST_VALUE = 4096
MOST_BYTES = 500_000

#: What was shown so far, as it will be written.
shown: list[dict[str, Any]] = []

#: The files to which the program itself saved its figures.
saved: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def __getattr__(name: str) -> Any:
    """`FigureCanvas` and `FigureManager`, which matplotlib asks a backend for."""
    if name not in {"FigureCanvas", "FigureManager"}:
        raise AttributeError(name)
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    class FigureManager(FigureManagerBase):
        """Shows by saving."""

        @classmethod
        def pyplot_show(cls, *, block: bool | None = None) -> None:
            """What `plt.show()` does."""
            show_figures()

    class FigureCanvas(FigureCanvasAgg):
        """Remembers to which file the program itself saved a figure."""

        manager_class = FigureManager

        def print_figure(self, filename: Any, *args: Any, **kwargs: Any) -> Any:
            """Save the figure."""
            made = super().print_figure(filename, *args, **kwargs)
            if isinstance(filename, str | os.PathLike):
                saved[self.figure] = os.path.abspath(os.fspath(filename))
            return made

    globals().update(FigureManager=FigureManager, FigureCanvas=FigureCanvas)
    return globals()[name]


def show_figures() -> None:
    """Save every open figure and close it."""
    from matplotlib._pylab_helpers import Gcf

    for manager in sorted(Gcf.get_all_fig_managers(), key=lambda manager: manager.num):
        _show_figure(manager.canvas.figure)
    Gcf.destroy_all()


def finish(value: Any = None) -> None:
    """The program has ended: show what it left open and its last value, and write all of it down."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = type(value).__module__.partition(".")[0]
        figure = _figure_of(value) if kind in {"matplotlib", "seaborn"} else None
        if figure is not None and getattr(figure, "number", None) is None:
            _show_figure(figure)  # not one of pyplot's, which come next
        if "matplotlib.pyplot" in __import__("sys").modules:
            show_figures()
        if kind == "pandas":
            _show_table(value)
        elif kind == "PIL":
            _show_image(value)
        elif figure is None and value is not None and _harmless(value):
            shown.append({"type": "value", "text": repr(value)[:MOST_VALUE]})
    if shown:
        _write()


def _write() -> None:
    found = shown[:MOST_RESULTS]
    text = json.dumps(found, allow_nan=False)
    while len(text) > MOST_BYTES and found:
        largest = max(found, key=lambda each: len(json.dumps(each)))
        for name in ("axes", "rows", "index"):
            if largest.get(name):
                largest[name] = []
                largest["truncated"] = True
                break
        else:
            found.remove(largest)
        text = json.dumps(found, allow_nan=False)
    os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
    with open(RESULTS, "w", encoding="utf-8") as file:
        file.write(text)


def _harmless(value: Any, depth: int = 0) -> bool:
    """Whether `repr` of a value runs no code but the interpreter's own, and ends soon."""
    kind = type(value)
    if kind in {bool, int, float, complex, str, bytes}:
        return kind is not int or value.bit_length() < 10_000
    if depth > 4 or kind not in {list, tuple, set, frozenset, dict} or len(value) > 1000:
        return kind.__module__ == "numpy" and getattr(value, "size", 1001) <= 1000
    inner: Iterable[Any] = [*value, *value.values()] if kind is dict else value
    return all(_harmless(each, depth + 1) for each in inner)


# --- figures ------------------------------------------------------------------------------------------


def _figure_of(value: Any) -> Any:
    """The figure that a value is or belongs to."""
    from matplotlib.figure import Figure

    if isinstance(value, Figure):
        return value
    found = getattr(value, "figure", None)
    return found if isinstance(found, Figure) else None


def _free_name(kind: str) -> str:
    number = 1
    while os.path.lexists(f"{WORK}/{kind}-{number}.png"):
        number += 1
    return f"{kind}-{number}.png"


def _show_figure(figure: Any) -> None:
    if len(shown) >= MOST_RESULTS:
        return
    path = saved.get(figure, "")
    if path.startswith(f"{WORK}/") and os.path.isfile(path):
        name = path[len(WORK) + 1 :]
    else:
        name = _free_name("figure")
        figure.savefig(f"{WORK}/{name}", format="png")
    axes = figure.axes
    shown.append(
        {
            "type": "chart",
            "artifact": name,
            "title": _text(figure.get_suptitle()),
            "axes": [_axes(each) for each in axes[:MOST_AXES]],
            "truncated": len(axes) > MOST_AXES,
        }
    )


def _show_image(value: Any) -> None:
    if hasattr(value, "save") and hasattr(value, "size"):
        name = _free_name("image")
        value.save(f"{WORK}/{name}", format="PNG")
        width, height = value.size
        shown.append({"type": "image", "artifact": name, "width": width, "height": height})


def _axes(axes: Any) -> dict[str, Any]:
    series: list[dict[str, Any]] = []
    for read in (_lines, _bars, _points, _wedges, _images):
        try:
            series += read(axes)
        except Exception:
            continue  # a kind of artist that we do not know; the picture has it
    return {
        "title": _text(axes.get_title()),
        "x_label": _text(axes.get_xlabel()),
        "y_label": _text(axes.get_ylabel()),
        "x_categories": _categories(axes.xaxis),
        "y_categories": _categories(axes.yaxis),
        "series": series[:MOST_SERIES],
        "truncated": len(series) > MOST_SERIES,
    }


def _categories(axis: Any) -> list[str] | None:
    mapping = getattr(axis.units, "_mapping", None)
    return None if not mapping else [_text(name) or "" for name in list(mapping)[:MOST_POINTS]]


def _one(kind: str, label: Any, x: Any, y: Any) -> dict[str, Any]:
    text = str(label)
    return {
        "kind": kind,
        "label": None if text.startswith("_") else _text(text),
        "x": [_plain(value) for value in list(x[:MOST_POINTS])],
        "y": [_plain(value) for value in list(y[:MOST_POINTS])],
        "points": len(y),
    }


def _lines(axes: Any) -> list[dict[str, Any]]:
    return [_one("line", line.get_label(), *line.get_data(orig=True)) for line in axes.lines]


def _bars(axes: Any) -> list[dict[str, Any]]:
    found = []
    for container in axes.containers:
        patches = [patch for patch in container if hasattr(patch, "get_width")]
        if patches and getattr(container, "orientation", "vertical") == "horizontal":
            x = [patch.get_width() for patch in patches]
            y = [patch.get_y() + patch.get_height() / 2 for patch in patches]
        else:
            x = [patch.get_x() + patch.get_width() / 2 for patch in patches]
            y = [patch.get_height() for patch in patches]
        if patches:
            found.append(_one("bar", container.get_label(), x, y))
    return found


def _points(axes: Any) -> list[dict[str, Any]]:
    found = []
    for collection in axes.collections:
        if type(collection).__name__ == "PathCollection":
            offsets = collection.get_offsets()
            found.append(_one("scatter", collection.get_label(), offsets[:, 0], offsets[:, 1]))
    return found


def _wedges(axes: Any) -> list[dict[str, Any]]:
    wedges = [patch for patch in axes.patches if type(patch).__name__ == "Wedge"]
    if not wedges:
        return []
    shares = [(wedge.theta2 - wedge.theta1) / 360 for wedge in wedges]
    return [_one("pie", "_", [wedge.get_label() for wedge in wedges], shares)]


def _images(axes: Any) -> list[dict[str, Any]]:
    return [
        {**_one("image", image.get_label(), [], []), "points": int(image.get_array().size)}
        for image in axes.images
    ]


# --- tables -------------------------------------------------------------------------------------------


def _show_table(value: Any) -> None:
    from pandas import DataFrame, Series

    if isinstance(value, Series):
        value = value.to_frame(name="" if value.name is None else value.name)
    if not isinstance(value, DataFrame) or len(shown) >= MOST_RESULTS:
        return
    rows, columns = value.shape
    part = value.iloc[:MOST_ROWS, :MOST_COLUMNS]
    listed = [[_plain(cell) for cell in part.iloc[:, at].tolist()] for at in range(part.shape[1])]
    shown.append(
        {
            "type": "table",
            "columns": [
                {"name": _text(_plain(name)) or "", "dtype": str(dtype)[:64]}
                for name, dtype in zip(part.columns, part.dtypes, strict=True)
            ],
            "index": [_plain(each) for each in part.index.tolist()],
            "rows": [list(row) for row in zip(*listed, strict=True)]
            if listed
            else [[] for _ in range(len(part))],
            "total_rows": rows,
            "total_columns": columns,
            "truncated": rows > MOST_ROWS or columns > MOST_COLUMNS,
        }
    )


# --- values -------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers stay numbers, what is not finite or missing is null, the rest is text."""
    if isinstance(value, tuple):
        return ", ".join(str(_plain(each)) for each in value)[:MOST_TEXT]
    if not isinstance(value, str | int | float) and hasattr(value, "item") and getattr(value, "size", 0) == 1:
        unit = type(value).__name__
        value = str(value) if unit in {"datetime64", "timedelta64"} else value.item()
    if value is None or type(value) is bool:
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        number = float(value)
        return number if number - number == 0 else None
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    if hasattr(value, "isoformat"):
        return str(value.isoformat())[:MOST_TEXT]
    return _text(str(value)) or ""


def _text(value: Any) -> str | None:
    text = str(value)[:MOST_TEXT].encode(errors="replace").decode()
    return text or None
