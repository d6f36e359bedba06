"""`retort stats`: what jobs came to, and how the service does."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.cli.common import AsJson, print_json, service, table
from retort.cli.telling import seconds

if TYPE_CHECKING:
    from retort.client.offers import JobStats, Stats

Since = Annotated[str | None, typer.Option("--since", help="A time, as in 2026-11-21T10:00:00Z.")]
Until = Annotated[str | None, typer.Option("--until", help="A time.")]
By = Annotated[
    list[str] | None, typer.Option("--by", help="model, language, verdict or time; repeat it: a row for each.")
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(stats)


def stats(since: Since = None, until: Until = None, by: By = None, as_json: AsJson = False) -> None:
    """Show what your jobs of the last day (or of another time) came to, and how the service's sandboxes do.

    Counts of sandboxes are since each worker started.
    """
    with service() as client:
        found = client.stats(since=since, until=until, by=by or ())
    if as_json:
        print_json(found.document)
        return
    if by:
        columns = ("jobs", "ok", "failed", "p50", "p95", "tokens", "cost", "repaired")
        table((*by, *columns), [(*(getattr(row, name, None) for name in by), *_row(row)) for row in found.rows])
        return
    table(("figure", "value"), [*_of_jobs(found), *_figures(found.sandbox)])


def _row(stats: "JobStats") -> tuple[object, ...]:
    total = stats.total_s or {}
    times = (seconds(total[name]) if name in total else "" for name in ("p50", "p95"))
    tokens = stats.input_tokens + stats.output_tokens
    counts = (stats.jobs, stats.succeeded, stats.failed)
    return (*counts, *times, tokens, _cost(stats), _share(stats.recovery_rate))


def _of_jobs(found: "Stats") -> list[tuple[str, object]]:
    names = ("your jobs", "ended well", "failed", "time, p50", "time, p95", "tokens", "cost", "repaired")
    rows: list[tuple[str, object]] = list(zip(names, _row(found.total), strict=True))
    return [(name, value) for name, value in rows if value != ""]


def _cost(stats: "JobStats") -> str:
    return f"${stats.cost_usd}{'' if stats.cost_complete else ', not all prices are known'}"


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.1f} %"


def _figures(sandbox: dict[str, Any]) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("workers", f"{sandbox.get('workers_ready', 0)} of {sandbox.get('workers', 0)} ready"),
        ("tiers", _pairs({name: "yes" if on else "no" for name, on in sandbox.get("tiers", {}).items()})),
        ("sandboxes used", sandbox.get("jobs", 0)),
        ("without a wait", _share(sandbox.get("hit_rate"))),
        ("sandboxes lent", _pairs(sandbox.get("lent", {}))),
        ("cells now", _pairs(sandbox.get("cells", {}))),
        ("cells so far", _pairs(sandbox.get("cells_since_start", {}))),
        ("memory", f"{sandbox.get('memory_mb', 0)} MB"),
    ]
    for tier, histogram in sandbox.get("start_seconds", {}).items():
        if histogram.get("count"):
            rows.append((f"start on {tier}", f"{seconds(histogram['sum_s'] / histogram['count'])} on average"))
    return rows


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
