"""`retort ask TASK`: have a model write a program for a task, run it, and show what it prints."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.cli import exits
from retort.cli.run import show, summary

if TYPE_CHECKING:
    from retort.client import Job

Task = Annotated[str, typer.Argument(help="What to do, in words; - reads it from standard input.")]
Language = Annotated[str, typer.Option("--language", "-l", help="Language of the program.")]
Model = Annotated[str | None, typer.Option("--model", help="A model's name or alias, or auto.")]
Route = Annotated[str | None, typer.Option("--route", help="What auto prefers: cost, speed or accuracy.")]
Attempts = Annotated[int | None, typer.Option("--attempts", "-n", min=1, help="Programs that are tried.")]
Budget = Annotated[str | None, typer.Option("--budget", help="US dollars that the models may cost.")]
Tests = Annotated[Path | None, typer.Option("--tests", exists=True, dir_okay=False, help="A file of tests.")]
Expect = Annotated[
    Path | None, typer.Option("--expect", exists=True, dir_okay=False, help="A file with the expected output.")
]
Timeout = Annotated[int | None, typer.Option("--timeout", "-t", help="Seconds each program may run.")]
Profile = Annotated[str | None, typer.Option("--profile", "-p", help="A named set of limits.")]
Cache = Annotated[bool, typer.Option("--cache", help="Take answers and results of equal earlier tasks.")]
ShowCode = Annotated[bool, typer.Option("--code", help="Print the program instead of its output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole job as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(ask)


def ask(
    task: Task,
    language: Language = "python",
    model: Model = None,
    route: Route = None,
    attempts: Attempts = None,
    budget: Budget = None,
    tests: Tests = None,
    expect: Expect = None,
    timeout: Timeout = None,
    profile: Profile = None,
    cache: Cache = False,
    show_code: ShowCode = False,
    as_json: AsJson = False,
) -> None:
    """Have a model write a program for a task, run it, repair it where it fails, and show what it prints.

    Progress, one line per attempt, goes to standard error. Exits as `retort run` does; 119 says that no model
    gave a program, 123 that the check failed.
    """
    if tests is not None and expect is not None:
        raise typer.BadParameter("give --tests or --expect, not both")
    request: dict[str, Any] = {"task": sys.stdin.read() if task == "-" else task, "language": language}
    check = {"tests": tests, "stdout": expect}
    given = {name: path.read_text(encoding="utf-8") for name, path in check.items() if path is not None}
    optional = {
        "model": model,
        "route": route,
        "max_attempts": attempts,
        "budget_usd": budget,
        "check": given or None,
        "limits": None if timeout is None else {"timeout_s": timeout},
        "profile": profile,
        "cache": cache or None,
    }
    request |= {name: value for name, value in optional.items() if value is not None}
    raise typer.Exit(_ask(request, show_code=show_code, as_json=as_json))


def _ask(request: dict[str, Any], *, show_code: bool, as_json: bool) -> int:
    from retort.client import Client, Refused, Service, Unreachable

    try:
        client = Client(Service.find())
        progress = Progress()
        for job in client.follow(client.submit(request)):
            progress.see(job)
    except Refused as refused:
        typer.echo(f"retort: {refused}", err=True)
        return exits.of_refusal(refused.status)
    except Unreachable as reason:
        typer.echo(f"retort: {reason}", err=True)
        return exits.UNREACHABLE
    except KeyboardInterrupt:
        typer.echo("retort: interrupted; the task itself goes on", err=True)
        return exits.INTERRUPTED
    if show_code and not as_json:
        typer.echo(job.get("code") or "")
        typer.echo(f"retort: {summary(job)}", err=True)
    else:
        show(job, as_json=as_json)
    return exits.of_job(job)


class Progress:
    """Says on standard error what is new of a task."""

    def __init__(self) -> None:
        self._shown = 0
        self._state: str | None = None

    def see(self, job: "Job") -> None:
        """Show what changed."""
        for attempt in job.get("attempts", ())[self._shown :]:
            typer.echo(f"retort: {describe(attempt)}", err=True)
            self._shown += 1
        state = str(job["state"])
        doing = {"generating": "asking a model", "running": "running the program"}.get(state)
        if doing is not None and state != self._state and sys.stderr.isatty():
            typer.echo(f"retort: {doing}", err=True)
        self._state = state


def describe(attempt: dict[str, Any]) -> str:
    """One line on an attempt."""
    parts = [str(attempt["verdict"] or attempt["failure"]).replace("_", " ")]
    if attempt.get("note"):
        parts.append(str(attempt["note"]))
    if attempt.get("model"):
        parts.append(f"by {attempt['model']}{' (scripted)' if attempt.get('scripted') else ''}")
    if attempt.get("cost_usd") is not None:
        parts.append(f"${attempt['cost_usd']}")
    if attempt.get("cached"):
        parts.append("recalled")
    return f"attempt {attempt['number']}: {', '.join(parts)}"
