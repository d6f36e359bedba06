"""`retort engine`: the container engine that the service needs."""

import typer

from retort.state import StateFolder

app = typer.Typer(help="The container engine that runs the sandboxes.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands of this module."""
    parent.add_typer(app, name="engine")


@app.command()
def ensure() -> None:
    """Make sure that a Docker engine answers; start or install one where that is possible."""
    from retort import engine

    try:
        engine.ensure(StateFolder.find(), lambda line: typer.echo(f"engine: {line}"))
    except engine.EngineError as reason:
        typer.echo(f"engine: {reason}", err=True)
        raise typer.Exit(1) from None
    typer.echo("engine: Docker answers")


@app.command()
def stop() -> None:
    """End the Docker engine if `retort engine ensure` started it; any other is left alone."""
    from retort import engine

    if engine.stop(StateFolder.find()):
        typer.echo("engine: ended the Docker engine that was started for Retort")


@app.command()
def gvisor() -> None:
    """Make gVisor (runsc) a runtime of the engine, the stronger tier: installs it where that is possible."""
    from retort import engine
    from retort import gvisor as tier

    try:
        tier.ensure(lambda line: typer.echo(f"engine: {line}"))
    except engine.EngineError as reason:
        typer.echo(f"engine: {reason}", err=True)
        raise typer.Exit(1) from None
    typer.echo("engine: runsc is a runtime; offer it with RETORT_RUNTIMES=runc,runsc")
