"""`retort stats`: how the service does."""

from typing import Any

import typer

from retort.cli.common import AsJson, print_json, service, table
from retort.cli.telling import seconds


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(stats)


def stats(as_json: AsJson = False) -> None:
    """Show how the sandboxes of all live workers do; counts are since each of them started."""
    with service() as client:
        found = client.stats()
    if as_json:
        print_json(found.document)
        return
    table(("figure", "value"), _figures(found.sandbox))


def _figures(sandbox: dict[str, Any]) -> list[tuple[str, object]]:
    rate = sandbox.get("hit_rate")
    rows: list[tuple[str, object]] = [
        ("workers", f"{sandbox.get('workers_ready', 0)} of {sandbox.get('workers', 0)} ready"),
        ("tiers", _pairs({name: "yes" if on else "no" for name, on in sandbox.get("tiers", {}).items()})),
        ("jobs", sandbox.get("jobs", 0)),
        ("without a wait", "" if rate is None else f"{100 * rate:.1f} %"),
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
