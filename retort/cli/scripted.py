"""`retort scripted-model`: a model server that plays scripts, for demonstrations and tests."""

from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")]
ScriptFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--scripts", "-s", exists=True, dir_okay=False, help="A file of scripts, before those built in."
    ),
]
Rpm = Annotated[int | None, typer.Option(min=1, help="Requests a minute; more are answered with 429.")]
Tpm = Annotated[int | None, typer.Option(min=1, help="Tokens a minute, prompt and max_tokens together.")]
Minute = Annotated[float, typer.Option(min=0.01, help="Seconds in a minute; fewer make tests quick.")]
Key = Annotated[str | None, typer.Option(envvar="SCRIPTED_MODEL_KEY", help="Refuse every other key.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(scripted_model)


def scripted_model(
    host: Host = "127.0.0.1",
    port: Port = 4010,
    scripts: ScriptFiles = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    minute: Minute = 60.0,
    key: Key = None,
) -> None:
    """Serve scripted answers in both dialects. Prints its base URL, then runs until Ctrl-C.

    Everything it says is marked as scripted. It is no model: it knows its scripts and nothing else.
    """
    import asyncio
    import signal
    from contextlib import suppress

    from retort.scripted.limits import Limits
    from retort.scripted.script import ScriptError, load_scripts
    from retort.scripted.server import Server, serve

    try:
        server = Server(load_scripts(*(scripts or [])), Limits(rpm, tpm, minute), key)
    except ScriptError as error:
        typer.echo(f"retort: {error}", err=True)
        raise typer.Exit(1) from None

    async def run() -> None:
        task = asyncio.ensure_future(serve(server, host, port, typer.echo))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(run())
    except OSError as error:
        typer.echo(f"retort: cannot listen on {host}:{port}: {error.strerror}", err=True)
        raise typer.Exit(1) from None
