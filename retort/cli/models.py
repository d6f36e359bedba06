"""`retort models`: which models there are. `retort models check`: which of them answer."""

import json
import sys
from typing import Any

import typer

from retort.cli.common import AsJson, print_json, service, table

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
    with service() as client:
        found = client.models()
    if as_json:
        print_json(found.document)
        return
    table(
        ("model", "aliases", "in", "out", "context", "accuracy", "roles", "served by"),
        [
            (
                model.name,
                ", ".join(model.aliases),
                f"${model.price.input}" if model.price else "unknown",
                f"${model.price.output}" if model.price else "unknown",
                f"{model.context_tokens:,}" if model.context_tokens else "unknown",
                "" if model.accuracy is None else f"{model.accuracy:.2f}",
                ", ".join(model.roles),
                ", ".join(gateway["name"] for gateway in model.gateways) or "nobody",
            )
            for model in found.models
        ],
    )
    if not any(model.available for model in found.models):
        typer.echo("No live worker serves a model; docs/models.md says how to configure a gateway.", err=True)


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
