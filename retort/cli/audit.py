"""`retort audit ID`: the record of a job, and whether one that was kept is still as it was."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.cli import exits
from retort.cli.common import service

if TYPE_CHECKING:
    from retort.client import Retort

JobId = Annotated[str | None, typer.Argument(metavar="ID", help="A job that has ended.")]
Verify = Annotated[
    Path | None,
    typer.Option("--verify", exists=True, dir_okay=False, help="A record that was kept: is it as it was?"),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(audit)


class _Documents:
    """What the service answers, as it came."""

    def __init__(self, client: "Retort") -> None:
        self._client = client

    def job(self, job_id: str) -> dict[str, Any]:
        return self._client.get(job_id).document

    def attempt(self, job_id: str, number: int) -> dict[str, Any]:
        return self._client.attempt(job_id, number).document


def audit(job_id: JobId = None, verify: Verify = None) -> None:
    """Print all that is stored of a job as one JSON document with its SHA-256, or look at one that was kept.

    It has every attempt with code, outputs, limits, image and runtime, and every call of a model with version,
    prompt, parameters, price used and answer. Files are named with their SHA-256; their contents are apart.
    """
    from retort import audit as records

    if (job_id is None) == (verify is None):
        raise typer.BadParameter("give a job's ID or --verify FILE")
    if verify is not None:
        intact = records.intact(verify.read_text(encoding="utf-8"))
        typer.echo(f"{verify}: {'as it was' if intact else 'CHANGED, or no record'}")
        raise typer.Exit(0 if intact else 1)
    assert job_id is not None  # noqa: S101  (one of both was given)
    from retort.client import FINAL_STATES

    try:
        with service() as client:
            found = records.record(_Documents(client), job_id, FINAL_STATES)
    except records.NotEnded as reason:
        typer.echo(f"retort: {reason}", err=True)
        raise typer.Exit(exits.USAGE) from None
    typer.echo(records.sealed(found))
