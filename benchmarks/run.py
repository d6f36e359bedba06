"""`make bench`: measure, print one table, keep the figures.

A complete run writes `latest.json` and `latest.png`; one that leaves something out writes `trial.json` and
`trial.png`, so that it never replaces figures that are worth more.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import document, driver, e2e, floor, hostile, languages, machine, models, plot, table, targets
from benchmarks.containers import Bench
from benchmarks.document import CpuPerJob, Document, Measurement
from benchmarks.pace import QUICK, Pace
from worker.sandbox.engine import EngineError, NoSuchImage

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

SECTIONS: dict[str, Callable[[Bench, Pace], Iterable[Measurement | CpuPerJob]]] = {
    "floor": floor.measure,
    "driver": driver.measure,
    "languages": languages.measure,
    "e2e": e2e.measure,
    "models": models.measure,
    "hostile": hostile.measure,
}


def _sections(text: str) -> list[str]:
    wanted = text.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        raise argparse.ArgumentTypeError(
            f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}"
        )
    return [name for name in SECTIONS if name in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0, also when a target is missed, because a busy machine misses all of them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description="Measure Retort on this machine."
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it works")
    parser.add_argument("--only", type=_sections, default=list(SECTIONS), metavar="SECTIONS",
                        help=f"some of {','.join(SECTIONS)}")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # however we are ended, the service is ended, too
    pace = QUICK if chosen.quick else Pace()
    try:
        bench = Bench()
    except NoSuchImage as reason:
        print(f"error: {reason}: run `make images`", file=sys.stderr)
        return 1
    except EngineError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    complete = not chosen.quick and chosen.only == list(SECTIONS)
    found = Document(
        datetime.now(UTC).isoformat(timespec="seconds"), complete, machine.facts(bench.engine, ROOT)
    )
    warning = machine.warning(found.machine)
    if warning is not None:
        pace.say(warning)
    stolen, began = machine.stolen_s(), time.monotonic()
    try:
        for name in chosen.only:
            found.add(SECTIONS[name](bench, pace))
    finally:
        bench.close()
    found.machine["seconds"] = time.monotonic() - began
    found.machine["stolen_s"] = machine.stolen_s() - stolen
    found.machine["load_average_after"] = machine.load_average()
    _keep(found, chosen.output)
    print(report(found))
    for line in filter(None, (warning, machine.stolen(found.machine))):
        print(f"\n{line}")
    return 0


def _keep(found: Document, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = "latest" if found.complete else "trial"
    document.save(found, [one.as_dict() for one in targets.judge(found)], folder / f"{name}.json")
    plot.draw(found, folder / f"{name}.png")


def report(found: Document) -> str:
    """The table, and below it where CPU time went and which targets are met."""
    parts = [
        table.text(table.HEADER, table.rows(found)),
        "ratio: how many times better than a container per run with the engine alone (its first two lines)",
    ]
    if found.cpu_per_job:
        parts.append(table.text(*table.cpu_rows(found.cpu_per_job)))
    parts.append(table.text(table.TARGET_HEADER, table.target_rows(targets.judge(found))))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
