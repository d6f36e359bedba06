"""`python -m tests.faults.report`: put the kept results of `make faults` into docs/faults.md."""

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.json"
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN = "<!-- figures: written by python -m tests.faults.report -->"
END = "<!-- end of figures -->"


def figures(kept: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "| fault | promise | times | right | median | worst | bound |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in kept["rows"].items():
        took = " | ".join(_seconds(row[each]) for each in ("median_s", "worst_s", "within_s"))
        times = "not here" if row["not_here"] else row["repetitions"]
        lines.append(f"| {name}: {row['what']} | {row['promise']} | {times} | {row['right']} | {took} |")
    lines += ["", "| figure | counted | median | p95 | worst |", f"|{' --- |' * 5}"]
    for name, each in kept["figures"].items():
        took = " | ".join(_seconds(each[which]) for which in ("median_s", "p95_s", "worst_s"))
        lines.append(f"| {name} | {each['count']} | {took} |")
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def main() -> int:
    """Fill the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    content = figures(json.loads(RESULTS.read_text()))
    PAGE.write_text(f"{before}{BEGIN}\n\n{content}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
