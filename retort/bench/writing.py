"""The files of a report."""

import json
from pathlib import Path

from retort.bench.page import page
from retort.bench.report import Report
from retort.bench.sheets import figures_csv, runs_csv

JOURNAL = "journal.ndjson"


def write(report: Report, folder: Path) -> list[Path]:
    """Write all forms of a report into a folder; the files."""
    texts = {
        "report.json": json.dumps(report.as_dict(), indent=2) + "\n",
        "figures.csv": figures_csv(report),
        "runs.csv": runs_csv(report),
        "report.html": page(report),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in texts]
