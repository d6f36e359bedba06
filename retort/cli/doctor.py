"""`retort doctor`: is this machine fit to run the service?"""

import json
import sys

import typer

from retort.cli.common import AsJson
from retort.cli.service import Host, Port
from retort.state import StateFolder

MARKS = {True: "[green]ok[/]", False: "[red]FAIL[/]", None: "[yellow]note[/]"}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(doctor)


def doctor(host: Host = "127.0.0.1", port: Port = 8000, as_json: AsJson = False) -> None:
    """Check what the service needs: engine, limits, images, servers, space. Exits with 1 if one fails."""
    from retort.doctor import examine

    checks = []
    for check in examine(StateFolder.find(), host, port):
        checks.append(check)
        if not as_json and sys.stderr.isatty():
            typer.echo(f"\r\x1b[K{check.name}", err=True, nl=False)
    failed = [check for check in checks if check.ok is False]
    if as_json:
        typer.echo(json.dumps([check.as_dict() for check in checks], indent=2))
        raise typer.Exit(1 if failed else 0)
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", err=True, nl=False)
    table = Table("check", "", "found, and what to do", box=None, pad_edge=False)
    for check in checks:
        todo = f"\n{escape(check.todo)}" if check.todo and check.ok is not True else ""
        table.add_row(escape(check.name), MARKS[check.ok], f"{escape(check.found)}{todo}")
    console = Console()
    console.print(table)
    console.print(f"{len(failed)} of {len(checks)} checks failed" if failed else "all well")
    raise typer.Exit(1 if failed else 0)
