"""The report as one page of HTML that needs nothing beside it: no script, no other host, light and dark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from retort.bench.figures import Figures
from retort.bench.metrics import best
from retort.bench.pictures import pictures
from retort.bench.report import Report, Section, probes
from retort.bench.words import UNKNOWN, dollars, seconds, shown, winner

#: Colours that the style sheet has; with more subjects they come again.
TONES = 6

_environment = Environment(
    loader=PackageLoader("retort.bench"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure in words; `best` where it is the best of its row."""

    text: str
    known: bool
    best: bool


def page(report: Report) -> str:
    """The page."""
    subjects = list(report.plan.subjects())
    return _environment.get_template("report.html").render(
        report=report,
        plan=report.plan,
        sections=[_section(each) for each in report.sections()],
        pictures=pictures(report),
        tones={name: number % TONES for number, name in enumerate(subjects)},
        parts=_parts(report, subjects),
        subjects=subjects,
        probes=_probes(report),
        worth=[{**each, "shown": dollars(each["error_cost_usd"])} for each in report.worth()],
        failures=_failures(report),
        versions={name: found for name, found in report.versions().items() if found},
    )


def _section(section: Section) -> dict[str, Any]:
    rows = []
    for metric in section.metrics:
        found = best(metric, section.found)
        cells = []
        for name, each in section.found.items():
            value = metric.value(each)
            text = shown(value, metric.unit)
            known = text != UNKNOWN
            is_best = found is not None and name in found.subjects
            cells.append(Cell(text if known else metric.note(each) or UNKNOWN, known, is_best))
        rows.append((metric, cells, winner(metric, found)))
    return {
        "title": section.title,
        "names": list(section.found),
        "rows": rows,
        "compared": len(section.found) > 1,
    }


def _parts(report: Report, subjects: list[str]) -> list[dict[str, Any]]:
    """Categories and their tasks, with what each subject came to."""
    categories, tasks = report.categories(), report.tasks()
    rows: list[dict[str, Any]] = []
    for category, found in categories.items():
        rows.append({"name": category, "task": False, "cells": _counts(found, subjects)})
        rows += [
            {"name": task.name, "task": True, "cells": _counts(tasks[task.name], subjects)}
            for task in report.plan.tasks
            if task.category == category and task.name in tasks
        ]
    return rows


def _counts(found: Mapping[str, Figures], subjects: list[str]) -> list[dict[str, str] | None]:
    cells: list[dict[str, str] | None] = []
    for name in subjects:
        each = found.get(name)
        if each is None:
            cells.append(None)
            continue
        time = "" if each.avg_s is None else seconds(each.avg_s)
        errors = f", {each.errors} errors" if each.errors else ""
        cells.append({"right": f"{each.accuracy.hits} of {each.accuracy.of}{errors}", "time": time})
    return cells


def _probes(report: Report) -> list[dict[str, Any]]:
    found = []
    for category, places in probes(report.measurements).items():
        depths = sorted({depth for depth, _, _ in places})
        if len(depths) < 2:
            continue
        by_place = {(depth, subject): each for depth, subject, each in places}
        rows = [
            (depth, [_share_words(by_place.get((depth, name))) for name in report.plan.models])
            for depth in depths
        ]
        found.append({"name": category, "rows": rows})
    return found


def _failures(report: Report) -> list[tuple[str, str, list[str]]]:
    return [
        (task, name, reasons)
        for task in report.tasks()
        for name in report.plan.subjects()
        if (reasons := report.reasons(task, name))
    ]


def _share_words(found: Figures | None) -> str:
    return "" if found is None else f"{found.accuracy.hits} of {found.accuracy.of}"
