"""`retort models`: which models there are. `retort models check`: which of them answer."""

import json
import sys
from typing import Annotated, Any

import typer

from retort.cli import exits

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

models = typer.Typer(
    help="List the models that the service knows; `check` asks each configured one.",
    invoke_without_command=True,
    add_completion=False,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(models, name="models")


@models.callback()
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models: prices per million tokens, limits, and where each is served."""
    if context.invoked_subcommand is not None:
        return
    from retort.client import Client, Refused, Service, Unreachable

    try:
        found = Client(Service.find()).models()
    except Refused as refused:
        typer.echo(f"retort: {refused}", err=True)
        raise typer.Exit(exits.of_refusal(refused.status)) from None
    except Unreachable as reason:
        typer.echo(f"retort: {reason}", err=True)
        raise typer.Exit(exits.UNREACHABLE) from None
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _table(found["models"])


def _table(cards: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "model", "aliases", "in", "out", "context", "accuracy", "roles", "served by", box=None, pad_edge=False
    )
    for card in cards:
        price = card["price"]
        served = ", ".join(gateway["name"] for gateway in card["gateways"])
        table.add_row(
            escape(card["name"]),
            escape(", ".join(card["aliases"])),
            f"${price['input']}" if price else "unknown",
            f"${price['output']}" if price else "unknown",
            f"{card['context_tokens']:,}" if card["context_tokens"] else "unknown",
            "" if card["accuracy"] is None else f"{card['accuracy']:.2f}",
            ", ".join(card["roles"]),
            escape(served) or "nobody",
        )
    console = Console()
    console.print(table)
    if not any(card["available"] for card in cards):
        console.print("No live worker serves a model; docs/models.md says how to configure a gateway.")


@models.command()
def check(as_json: AsJson = False) -> None:
    """Ask each configured model the smallest question and show what works. Run it where the gateways' keys are.

    Exits with 0 if every model answers, 1 if one does not, 2 if no gateway is configured.
    """
    import subprocess

    from retort import commands

    # The child's errors are sentences for a person and go where ours go.
    with subprocess.Popen(
        commands.models_check(),
        env=commands.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        for line in child.stdout or ():
            if as_json:
                typer.echo(line, nl=False)
            else:
                _show(json.loads(line))
    sys.stdout.flush()
    raise typer.Exit(child.returncode)


def _show(found: dict[str, Any]) -> None:
    place = f"{found['model']} at {found['gateway']}"
    if not found["works"]:
        typer.echo(f"FAIL  {place}: {found['detail']}")
        for number, hint in enumerate(found["hints"], 1):
            typer.echo(f"      {number}. {hint}")
        return
    cost = "price unknown" if found["cost_usd"] is None else f"${found['cost_usd']}"
    scripted = ", scripted" if found["scripted"] else ""
    used = f"{found['latency_s']:.2f} s, {found['tokens']} tokens, {cost}"
    typer.echo(f"ok    {place}: {found['version']}, {used}{scripted}")
