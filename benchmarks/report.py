"""`python -m benchmarks.report`: put the figures of `latest.json` into docs/performance.md."""

import sys
from pathlib import Path

from benchmarks import document, machine, table, targets
from benchmarks.document import Document
from benchmarks.run import RESULTS, ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- figures: written by python -m benchmarks.report -->"
END = "<!-- end of figures -->"


def figures(found: Document) -> str:
    """The part of the page that a run fills."""
    facts = found.machine
    engine = ", ".join(f"{name} {version}" for name, version in facts["engine"].items())
    parts = [
        f"{found.when[:10]}, revision {facts['revision']}: {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['memory_mb']} MB, Linux {facts['kernel']}, {engine}, {facts['storage']}, "
        f"cgroup v{facts['cgroup']}, Python {facts['python']}. Load average before the run "
        f"{facts['load_average'][0]:.2f}.",
    ]
    if not found.complete:
        parts.append("**This run left things out.**")
    parts += [f"**{line}**" for line in (machine.warning(facts), machine.stolen(facts)) if line is not None]
    parts.append(table.markdown(table.TARGET_HEADER, table.target_rows(targets.judge(found))))
    parts.append(table.markdown(table.HEADER, table.rows(found)))
    if found.cpu_per_job:
        parts.append(table.markdown(*table.cpu_rows(found.cpu_per_job)))
    return "\n\n".join(parts)


def filled(page: str, content: str) -> str:
    """The page with the content between its markers.

    Raises:
        ValueError: it lacks them.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks a line {BEGIN!r} or {END!r}")
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main(source: Path = RESULTS / "latest.json") -> int:
    """Fill the page; 1 if there is nothing to fill it with."""
    if not source.exists():
        print(f"{source} is missing: run `make bench`", file=sys.stderr)
        return 1
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, figures(document.load(source))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
