"""How jobs and attempts are told: a line, their output, and what happens as it happens."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from retort.cli.common import plain, print_json
from retort.cli.terminal import Screen

if TYPE_CHECKING:
    from retort.client import Job, Retort
    from retort.client.results import AttemptSummary, Outputs

DOING = {"queued": "waiting", "generating": "asking a model", "running": "running the program"}


def show(job: "Job", *, as_json: bool, written: bool = False) -> None:
    """Print what a program wrote, unless that was `written` already, and a line on how it ended; or the job."""
    if as_json:
        print_json(job.document)
        return
    if not written:
        outputs(job)
    say(summary(job))


def say(line: str) -> None:
    """A line of ours, beside the program's."""
    typer.echo(f"retort: {line}", err=True)


def outputs(found: "Outputs") -> None:
    """What a program wrote, to the same streams, byte for byte."""
    write("stdout", found.output("stdout"))
    write("stderr", found.output("stderr"))
    for stream, cut in (("stdout", found.stdout_truncated), ("stderr", found.stderr_truncated)):
        if cut is not None:
            left_out = cut.total - cut.kept_head - cut.kept_tail
            say(
                f"{stream} is cut: {left_out} of {cut.total} bytes are left out after the first {cut.kept_head}"
            )


def write(stream: str, data: bytes) -> None:
    """Bytes of a program to our stream of that name; at a terminal only what does no more than show text."""
    ours = sys.stderr if stream == "stderr" else sys.stdout
    ours.flush()
    if ours.isatty():
        ours.write(_screens.setdefault(stream, Screen()).shown(data))
    else:
        ours.buffer.write(data)
    ours.flush()


#: Of this process, which shows one job.
_screens: dict[str, Screen] = {}


def follow(client: "Retort", job: "Job", *, live: bool, files: bool = False) -> "Job":
    """Tell what happens to a job until it has ended, and give it then.

    What happens goes to standard error: a line for each attempt, and on a terminal what goes on. `live`: what
    programs write is passed on as they write it, and attempts are told only where a sandbox failed. `files`:
    a line for each file that an attempt left.
    """
    seen: dict[tuple[int, str], int] = {}
    with _status() as doing:
        doing(DOING.get(job.state, ""))
        for event in client.events(job):
            match event.kind:
                case "state":
                    doing(DOING.get(str(event.data.get("state")), ""))
                case "stdout" | "stderr" if live:
                    doing("")
                    _gap(event.data, event.kind, seen, len(event.output))
                    write(event.kind, event.output)
                case "attempt" if not live or event.data.get("failure"):
                    from retort.client.results import AttemptSummary

                    doing("")
                    say(describe(AttemptSummary.model_validate(event.data)))
                case "artifact" if files and (left := event.artifact):
                    doing("")
                    say(plain(f"left {left.name} ({left.media_type}, {left.size} bytes)"))
    return client.get(job)


def _gap(data: dict[str, Any], stream: str, seen: dict[tuple[int, str], int], size: int) -> None:
    place = (int(data.get("attempt", 1)), stream)
    at = int(data.get("at", 0))
    if missing := at - seen.get(place, 0):
        say(f"{missing} bytes of {stream} are left out here")
    seen[place] = at + size


def describe(attempt: "AttemptSummary") -> str:
    """One line on an attempt."""
    parts = [str(attempt.verdict or attempt.failure).replace("_", " ")]
    if attempt.note:
        parts.append(attempt.note)
    if attempt.model:
        parts.append(f"by {attempt.model}{' (scripted)' if attempt.scripted else ''}")
    if attempt.cost_usd is not None:
        parts.append(f"${attempt.cost_usd}")
    if attempt.cached:
        parts.append("recalled")
    return plain(f"attempt {attempt.number}: {', '.join(parts)}")


def summary(job: "Job") -> str:
    """One line on how a job ended and what it used."""
    usage = job.usage
    ending = (job.verdict or job.state).replace("_", " ")
    if job.exit_code:
        ending += f" (exit code {job.exit_code})"
    elif job.signal:
        ending += f" (signal {job.signal})"
    parts = [ending]
    if job.outcome and job.task:
        parts.append({"passed": "check passed", "ran": "not checked"}.get(job.outcome, "not done"))
    if job.reason and job.verdict == "timeout":
        parts[0] += f" ({job.reason} time)"
    elif job.reason:
        parts.append(job.reason)
    if usage.compile_s is not None:
        parts.append(f"compiler {seconds(usage.compile_s)}")
    if usage.wall_s is not None:
        parts.append(f"wall {seconds(usage.wall_s)}")
    if usage.cpu_s is not None:
        parts.append(f"CPU {seconds(usage.cpu_s)}")
    if usage.peak_memory_bytes is not None:
        parts.append(f"memory {usage.peak_memory_bytes / 2**20:.0f} MB")
    if usage.sandbox_start:
        parts.append(f"{usage.sandbox_start} sandbox")
    if job.model:
        cost = job.cost_usd if job.cost_complete else "unknown"
        parts.append(f"{job.model}{' (scripted)' if job.scripted else ''}, cost ${cost}")
    return plain(", ".join(parts))


def seconds(value: float) -> str:
    """A time for a person."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


@contextmanager
def _status() -> Iterator[Any]:
    """Shows on a terminal's standard error what goes on, until it is told an empty text; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.text import Text

    status = Console(stderr=True).status("")

    def tell(text: str) -> None:
        if text:
            status.update(Text(text))
            status.start()
        else:
            status.stop()

    try:
        yield tell
    finally:
        status.stop()
