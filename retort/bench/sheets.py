"""The report as files of comma-separated values: one row for each figure, and one for each measurement."""

import csv
import io
from dataclasses import fields

from retort.bench.measurement import Measurement
from retort.bench.metrics import as_json, best, plain
from retort.bench.report import Report

FIGURES = ("section", "metric", "unit", "subject", "value", "hits", "of", "best", "close", "unknown_because")


def figures_csv(report: Report) -> str:
    """Every figure of the tables."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIGURES, lineterminator="\n")
    writer.writeheader()
    for section in report.sections():
        for metric in section.metrics:
            winner = best(metric, section.found)
            for name, found in section.found.items():
                value = metric.value(found)
                counts = as_json(value) if isinstance(as_json(value), dict) else {}
                number = plain(value)
                writer.writerow(
                    {
                        "section": section.title,
                        "metric": metric.name,
                        "unit": metric.unit.value,
                        "subject": name,
                        "value": "" if number is None else as_json(number),
                        "hits": counts.get("hits", ""),
                        "of": counts.get("of", ""),
                        "best": "" if winner is None else int(name in winner.subjects),
                        "close": "" if winner is None else int(winner.close),
                        "unknown_because": metric.note(found) or "",
                    }
                )
    return text.getvalue()


def runs_csv(report: Report) -> str:
    """Every measurement."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Measurement)], lineterminator="\n")
    writer.writeheader()
    for each in report.measurements:
        writer.writerow({**each.as_dict(), "versions": " ".join(each.versions), "why": _harmless(each.why)})
    return text.getvalue()


def _harmless(text: str) -> str:
    """Text that was written by programs, so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
