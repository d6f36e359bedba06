"""`retort artifacts ID`: what a job left."""

from pathlib import Path
from typing import Annotated

import typer

from retort.cli import exits
from retort.cli.common import AsJson, AttemptNumber, JobId, fail, print_json, service, table

Names = Annotated[list[str] | None, typer.Argument(help="By default all.", show_default=False)]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", file_okay=False, help="Save them below this folder.")
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(artifacts)


def artifacts(
    job_id: JobId,
    names: Names = None,
    output: Folder = None,
    attempt: AttemptNumber = None,
    as_json: AsJson = False,
) -> None:
    """List the files that a job left, or save them with -o."""
    with service() as client:
        left = client.artifacts(job_id, attempt=attempt)
        if names:
            if unknown := sorted(set(names) - {each.name for each in left}):
                fail(f"the job left no {', '.join(unknown)}", exits.USAGE)
            left = [each for each in left if each.name in names]
        saved: dict[str, str] = {}
        if output is not None:
            try:
                output.mkdir(parents=True, exist_ok=True)
                for each in left:
                    saved[each.name] = str(client.download(job_id, each, output, attempt=attempt))
            except OSError as reason:
                fail(reason, exits.NO_OUTPUT)
    if as_json:
        found = [
            {**each.model_dump(mode="json"), **({"path": saved[each.name]} if saved else {})} for each in left
        ]
        print_json({"artifacts": found})
    elif output is None:
        table(("name", "bytes", "kind", "sha256"), [(a.name, a.size, a.media_type, a.sha256) for a in left])
    else:
        table(("saved", "bytes"), [(saved[each.name], each.size) for each in left])
