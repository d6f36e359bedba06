"""`retort run FILE`: run code on the service, as if it ran here."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.cli import exits

if TYPE_CHECKING:
    from retort.client import Job

LANGUAGES = {
    ".py": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".sh": "bash",
    ".bash": "bash", ".r": "r", ".rs": "rust",
}  # fmt: skip

File = Annotated[str, typer.Argument(help="The program; - reads it from standard input.")]
Args = Annotated[list[str] | None, typer.Argument(help="The program's own arguments, after --.")]
Language = Annotated[str | None, typer.Option("--language", "-l", help="By default from the file's name.")]
Timeout = Annotated[int | None, typer.Option("--timeout", "-t", help="Seconds the program may run.")]
Memory = Annotated[int | None, typer.Option("--memory", "-m", help="MB the program may use.")]
Profile = Annotated[str | None, typer.Option("--profile", "-p", help="A named set of limits.")]
Stdin = Annotated[str | None, typer.Option("--stdin", help="A file for the program to read; - passes ours on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole job as JSON instead of its output.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(run)


def run(
    file: File,
    args: Args = None,
    language: Language = None,
    timeout: Timeout = None,
    memory: Memory = None,
    profile: Profile = None,
    stdin: Stdin = None,
    as_json: AsJson = False,
) -> None:
    """Run a program in a sandbox of the service and show what it prints.

    Exits with the program's exit code, 128 and the number of the signal that ended it, 124 for a timeout, 137
    for out of memory; 69, 70 and 77 say that the service, not the program, is at fault.
    """
    if file == "-" and stdin == "-":
        raise typer.BadParameter("the program and its input cannot both come from standard input")
    limits = {"timeout_s": timeout, "memory_mb": memory}
    request: dict[str, Any] = {
        "code": _read(file).decode("utf-8", "surrogateescape"),
        "language": language or LANGUAGES.get(Path(file).suffix.lower(), "python"),
    }
    try:
        request["code"].encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{file} is not UTF-8 text") from None
    if stdin is not None:
        try:
            request["stdin"] = _read(stdin).decode()
        except UnicodeDecodeError:
            raise typer.BadParameter(f"{stdin} is not UTF-8 text, which is all that --stdin takes") from None
    if profile is not None:
        request["profile"] = profile
    if args:
        request["args"] = args
    if any(value is not None for value in limits.values()):
        request["limits"] = {name: value for name, value in limits.items() if value is not None}
    raise typer.Exit(submit(request, as_json=as_json))


def submit(request: dict[str, Any], *, as_json: bool) -> int:
    """Run one job and print its result; the exit code."""
    from retort.client import Client, Refused, Service, Unreachable

    try:
        with _spinner() as on_change:
            job = Client(Service.find()).run(request, on_change)
    except Refused as refused:
        typer.echo(f"retort: {refused}", err=True)
        return exits.of_refusal(refused.status)
    except Unreachable as reason:
        typer.echo(f"retort: {reason}", err=True)
        return exits.UNREACHABLE
    except KeyboardInterrupt:
        typer.echo("retort: interrupted; the job itself goes on to its own limits", err=True)
        return exits.INTERRUPTED
    try:
        show(job, as_json=as_json)
    except BrokenPipeError:  # the reader has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.of_job(job)


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as reason:
        typer.echo(f"retort: {name}: {reason.strerror}", err=True)
        raise typer.Exit(exits.NO_INPUT) from None


def show(job: "Job", *, as_json: bool) -> None:
    """Print what a program wrote and a line on how it ended, or the whole job."""
    from retort.client import output

    if as_json:
        import json

        typer.echo(json.dumps(job, indent=2, ensure_ascii=False))
        return
    for stream, ours in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        ours.flush()
        ours.buffer.write(output(job, stream))
        ours.flush()
    for stream in ("stdout", "stderr"):
        if cut := job.get(f"{stream}_truncated"):
            left_out = cut["total"] - cut["kept_head"] - cut["kept_tail"]
            typer.echo(
                f"retort: {stream} is cut: {left_out} of {cut['total']} bytes are left out "
                f"after the first {cut['kept_head']}",
                err=True,
            )
    typer.echo(f"retort: {summary(job)}", err=True)


def summary(job: "Job") -> str:
    """One line on how a job ended and what it used."""
    usage = job.get("usage") or {}
    ending = str(job.get("verdict") or job["state"]).replace("_", " ")
    if job.get("exit_code"):
        ending += f" (exit code {job['exit_code']})"
    elif job.get("signal"):
        ending += f" (signal {job['signal']})"
    parts = [ending]
    if job.get("outcome") and job.get("task"):
        parts.append({"passed": "check passed", "ran": "not checked"}.get(job["outcome"], "not done"))
    if job.get("reason"):
        parts.append(str(job["reason"]))
    if usage.get("wall_s") is not None:
        parts.append(f"wall {_seconds(usage['wall_s'])}")
    if usage.get("cpu_s") is not None:
        parts.append(f"CPU {_seconds(usage['cpu_s'])}")
    if usage.get("peak_memory_bytes") is not None:
        parts.append(f"memory {usage['peak_memory_bytes'] / 2**20:.0f} MB")
    if usage.get("sandbox_start"):
        parts.append(f"{usage['sandbox_start']} sandbox")
    if job.get("model"):
        cost = job["cost_usd"] if job.get("cost_complete") else "unknown"
        parts.append(f"{job['model']}{' (scripted)' if job.get('scripted') else ''}, cost ${cost}")
    return ", ".join(parts)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


@contextmanager
def _spinner() -> Iterator[Any]:
    """Show on a terminal's standard error that something goes on; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda _job: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("running", total=None)
        yield lambda job: progress.update(task, description=f"{job['state']}  {job['id']}")
