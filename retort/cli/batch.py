"""`retort batch FILE`: many jobs in one request, and what came of each."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from retort.cli import exits
from retort.cli.common import AsJson, fail, print_json, read_input, service
from retort.cli.options import Detach
from retort.cli.telling import say

if TYPE_CHECKING:
    from retort.client import Retort
    from retort.client.results import Batch

Source = Annotated[
    str, typer.Argument(metavar="FILE", help="A job on each line, as JSON; or the id of a batch.")
]
Name = Annotated[str | None, typer.Option("--name", help="What it is called in lists.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="Where the results go.")]

NOT_ALL_WELL = 1


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(batch)


def batch(
    source: Source,
    name: Name = None,
    output: Output = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Submit a file of jobs, wait for all of them, and print each with its result, one a line, as JSON.

    Jobs of a batch run when nothing more urgent does. Given the id of a batch it waits for that one. --json
    prints the batch itself instead of the results. Exits with 1 if a job did not end well.
    """
    with service("interrupted; the batch goes on, and `retort batch ID` waits for it") as client:
        found = _submitted(client, source, name)
        if detach:
            print_json(found.document) if as_json else typer.echo(found.id)
            return
        say(f"batch {found.id}, {found.total} jobs")
        with _progress(found.total) as show:
            found = _ended(client, found, show)
        if output is not None or not as_json:
            _results(client, found, output)
        if as_json:
            print_json(found.document)
        say(", ".join(f"{count} {what}" for what, count in _endings(found).items()) or "nothing is left of it")
    raise typer.Exit(0 if found.verdicts.get("ok", 0) == found.total else NOT_ALL_WELL)


def _submitted(client: "Retort", source: str, name: str | None) -> "Batch":
    path = Path(source)
    if source != "-" and not path.exists():
        try:
            return client.get_batch(str(UUID(source)))
        except ValueError:
            fail(f"{source}: No such file", exits.NO_INPUT)
    if source == "-":
        return client.submit_batch(read_input(source), name=name)
    return client.submit_batch(path, name=name)


def _ended(client: "Retort", found: "Batch", show: Callable[["Batch"], None]) -> "Batch":
    import time

    pause = 0.1
    while not found.ended:
        show(found)
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
        found = client.get_batch(found)
    show(found)
    return found


def _results(client: "Retort", found: "Batch", output: Path | None) -> None:
    with ExitStack() as closing:
        to = sys.stdout
        if output is not None:
            try:
                to = closing.enter_context(output.open("w", encoding="utf-8"))
            except OSError as reason:
                fail(f"{output}: {reason.strerror}", exits.NO_OUTPUT)
        for job in client.batch_results(found):
            to.write(json.dumps(job.document, ensure_ascii=False) + "\n")
        to.flush()


def _endings(found: "Batch") -> dict[str, int]:
    others = {state: found.counts.get(state, 0) for state in ("cancelled", "broken", "deleted")}
    return {**found.verdicts, **{state: count for state, count in others.items() if count}}


@contextmanager
def _progress(total: int) -> Iterator[Callable[["Batch"], None]]:
    """A bar on a terminal's standard error; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda _batch: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda found: progress.update(task, completed=found.done)
