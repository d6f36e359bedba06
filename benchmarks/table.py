"""The table of a run, as text and as Markdown."""

from collections.abc import Sequence

from benchmarks.document import CpuPerJob, Document, Measurement
from benchmarks.targets import FLOOR, FLOOR_PARALLEL, Judged

HEADER = ("measurement", "n", "p50 ms", "p95 ms", "p99 ms", "per s", "ratio")
TARGET_HEADER = ("target", "bound", "measured", "met")

NONE = "-"

#: What is no way to run a program, and so not to be compared with one.
UNCOMPARED = ("driver.preload", "driver.pandas.added", "driver.pandas.recycled.added", "e2e.up")

Row = tuple[str, ...]


def number(value: float | None) -> str:
    """Three digits that mean something, or a dash."""
    if value is None:
        return NONE
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(document: Document, one: Measurement) -> float | None:
    """How many times better than a container per run: by rate if there is one, else by the median time."""
    if one.key in UNCOMPARED or one.key.startswith("hostile."):
        return None
    if one.per_s is not None:
        floor = document.rate(FLOOR_PARALLEL)
        return one.per_s / floor if floor else None
    floor = document.time(FLOOR)
    median = one.ms.p50 if one.ms is not None else None
    return floor / median if floor and median else None


def rows(document: Document) -> list[Row]:
    """One row for each measurement."""
    found: list[Row] = []
    for one in document.measurements:
        ms = one.ms
        times = (
            (ms.p50, ms.p95, ms.p99) if ms is not None and ms.n > 1 else (ms.p50 if ms else None, None, None)
        )
        compared = ratio(document, one)
        found.append(
            (
                one.title,
                str(ms.n) if ms is not None else NONE,
                *(number(value) for value in times),
                number(one.per_s),
                NONE if compared is None else f"{number(compared)} x",
            )
        )
    return found


def target_rows(judged: Sequence[Judged]) -> list[Row]:
    """One row for each target."""
    words = {True: "yes", False: "NO", None: "not measured"}
    return [
        (
            one.title,
            f"{'≤' if one.at_most else '≥'} {one.bound:g} {one.unit}",
            f"{number(one.measured)} {one.unit}" if one.measured is not None else NONE,
            words[one.met],
        )
        for one in judged
    ]


def cpu_rows(found: Sequence[CpuPerJob]) -> tuple[Row, list[Row]]:
    """CPU per job by who spent it: header and rows; the last column is the sum."""
    names = list(dict.fromkeys(name for one in found for name in one.ms))
    header = ("CPU per job, ms", *names, "all")
    return header, [
        (one.title, *(number(one.ms.get(name)) for name in names), number(sum(one.ms.values())))
        for one in found
    ]


def text(header: Row, body: Sequence[Row]) -> str:
    """Aligned for a terminal; the first column to the left."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    lines = []
    for row in (header, tuple("-" * width for width in widths), *body):
        cells = (row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(header: Row, body: Sequence[Row]) -> str:
    """The same for a page."""
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]
    return "\n".join(lines)
