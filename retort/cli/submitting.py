"""Submit code or a task, show what comes of it, and say how the command exits: `run`, `ask`, `rerun`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.cli import exits
from retort.cli.common import fail, print_json, service
from retort.cli.telling import describe, follow, say, show, summary

if TYPE_CHECKING:
    from retort.client import Job, Retort

Language = Annotated[str | None, typer.Option("--language", "-l", help="As in `retort images`.")]
Timeout = Annotated[int | None, typer.Option("--timeout", "-t", help="Seconds the program may run.")]
Memory = Annotated[int | None, typer.Option("--memory", "-m", help="MB the program may use.")]
Profile = Annotated[str | None, typer.Option("--profile", "-p", help="A named set of limits.")]
Cache = Annotated[bool, typer.Option("--cache", help="Take results of equal earlier jobs.")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", exists=True, dir_okay=False, help="A file for the work folder; repeat it."),
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE; repeat it.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id, and do not wait.")]
Model = Annotated[str | None, typer.Option("--model", help="A model's name or alias, or auto.")]
Route = Annotated[str | None, typer.Option("--route", help="What auto prefers: cost, speed or accuracy.")]
Attempts = Annotated[int | None, typer.Option("--attempts", "-n", min=1, help="Programs that are tried.")]
Budget = Annotated[str | None, typer.Option("--budget", help="US dollars that the models may cost.")]
JobAsJson = Annotated[bool, typer.Option("--json", help="Print the whole job as JSON instead of its output.")]

#: Programs that end within this time (most) are shown by one request and its answer.
_FIRST_WAIT_S = 1


def options_of(
    *,
    timeout: int | None = None,
    memory: int | None = None,
    files: list[Path] | None = None,
    labels: list[str] | None = None,
    cache: bool = False,
    **others: Any,
) -> dict[str, Any]:
    """Options of a call of the client, from those of a command; what was not given is left out."""
    limits = {"timeout_s": timeout, "memory_mb": memory}
    limits = {name: value for name, value in limits.items() if value is not None}
    found = {"limits": limits, "files": files, "labels": _labels(labels or []), "cache": cache, **others}
    return {name: value for name, value in found.items() if value is not False and value not in (None, {}, [])}


def _labels(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if wrong := [name for name, separator, _ in pairs if not separator or not name]:
        raise typer.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint="--label")
    return {name: value for name, _, value in pairs}


def submit(
    send: Callable[["Retort", int], "Job"],
    *,
    as_json: bool,
    live: bool | None = True,
    detach: bool = False,
    show_code: bool = False,
) -> int:
    """Submit by `send`, which is given a client and for how long to wait at first; the exit code.

    `live`: what the program writes is shown while it writes; None: unless a model writes the program.
    """
    interrupted = "interrupted; the job itself goes on, and `retort cancel` ends it"
    with service(interrupted) as client:
        try:
            job = send(client, 0 if detach else _FIRST_WAIT_S)
        except (OSError, UnicodeDecodeError) as reason:
            fail(reason, exits.NO_INPUT)
        except ValueError as reason:
            fail(reason, exits.USAGE)
        if detach:
            print_json(job.document) if as_json else typer.echo(job.id)
            return 0
        written = False
        if not job.ended:
            live = job.task is None if live is None else live
            written = live and not as_json
            job = client.wait(job) if as_json else follow(client, job, live=live)
        elif job.task and not as_json:
            for attempt in job.attempts:
                say(describe(attempt))
        if show_code and not as_json:
            typer.echo(job.code or "")
            say(summary(job))
        else:
            show(job, as_json=as_json, written=written)
    return exits.of_job(job)
