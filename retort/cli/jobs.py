"""`retort jobs`, `show`, `logs`, `cancel`, `rerun`, `delete`: jobs that were submitted."""

import json
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from retort.cli import exits
from retort.cli.common import AsJson, AttemptNumber, JobId, plain, print_json, service, table
from retort.cli.options import Chosen, submits
from retort.cli.submitting import submit
from retort.cli.telling import describe, follow, outputs, say, seconds, summary

if TYPE_CHECKING:
    from retort.client import Attempt, Job

JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.", show_default=False)]
State = Annotated[str | None, typer.Option("--state", "-s", help="queued, running, finished, …")]
Verdict = Annotated[str | None, typer.Option("--verdict", "-v", help="ok, error, timeout, …")]
Language = Annotated[str | None, typer.Option("--language", "-l", help="Of this language alone.")]
OfModel = Annotated[str | None, typer.Option("--model", help="By this model alone.")]
Label = Annotated[str | None, typer.Option("--label", help="NAME, or NAME=VALUE.")]
Since = Annotated[str | None, typer.Option("--since", help="A time, as in 2026-11-21T10:00:00Z.")]
Until = Annotated[str | None, typer.Option("--until", help="A time.")]
Text = Annotated[str | None, typer.Option("--text", help="In code, task or reason.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, the newest.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")]

_PAGE = 200


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (jobs, show, logs, cancel, rerun, delete):
        app.command()(command)


def jobs(
    state: State = None,
    verdict: Verdict = None,
    language: Language = None,
    model: OfModel = None,
    label: Label = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    with service() as client:
        found = client.list(
            state=state,
            verdict=verdict,
            language=language,
            model=model,
            label=label,
            since=since,
            until=until,
            text=text,
            page_size=min(limit, _PAGE),
        )
        newest = list(islice(found, limit))
    if as_json:
        print_json({"jobs": [job.document for job in newest]})
        return
    columns = ("id", "created", "state", "verdict", "language", "model", "cost", "labels")
    table(columns, [_row(job) for job in newest])


def _row(job: "Job") -> list[object]:
    labels = " ".join(f"{name}={value}" for name, value in job.labels.items())
    cost = f"${job.cost_usd}" if job.model else ""
    return [job.id, job.created_at, job.state, job.verdict, job.language, job.model, cost, labels]


def show(job_id: JobId, attempt: AttemptNumber = None, as_json: AsJson = False) -> None:
    """Show a job: how it stands, what it used, its attempts, its code and what it printed.

    With --attempt one attempt in full; --json has everything that is known.
    """
    with service() as client:
        found: Job | Attempt = client.attempt(job_id, attempt) if attempt else client.get(job_id)
    if as_json:
        print_json(found.document)
        return
    for name, value in _facts(found):
        if value not in (None, ""):
            typer.echo(f"{name:<10}{plain(value)}")
    for title, source in (("task", getattr(found, "task", None)), ("code", found.code)):
        if source:
            _block(title, source, found.document.get("language") if title == "code" else None)
    for title in ("stdout", "stderr"):
        if written := getattr(found, title):
            _block(title, written)


def _facts(found: "Job | Attempt") -> list[tuple[str, object]]:
    from retort.client import Job

    if not isinstance(found, Job):
        limits = {name: value for name, value in found.limits.model_dump().items() if value is not None}
        return [
            ("job", found.job_id),
            ("attempt", found.number),
            ("ended", found.verdict or found.failure),
            ("model", found.model),
            ("note", found.note),
            ("limits", ", ".join(f"{name} {value}" for name, value in limits.items())),
            *[("artifact", each.name) for each in found.artifacts],
        ]
    facts: list[tuple[str, object]] = [
        ("job", found.id),
        ("state", found.state),
        ("ended", summary(found) if found.ended else ""),
        ("language", f"{found.language}, {found.profile}, {found.runtime}"),
        ("created", found.created_at),
        ("waited", None if found.usage.queue_s is None else seconds(found.usage.queue_s)),
        ("rerun of", found.rerun_of),
        ("labels", " ".join(f"{name}={value}" for name, value in found.labels.items())),
    ]
    facts += [("", describe(each)) for each in found.attempts if found.task or len(found.attempts) > 1]
    return facts + [("artifact", f"{each.name}, {each.size} bytes") for each in found.artifacts]


def _block(title: str, text: str, language: str | None = None) -> None:
    """A text of several lines with a title. On a terminal, code has colours."""
    import sys

    typer.echo(f"{title}:")
    if language and sys.stdout.isatty():
        from rich.console import Console
        from rich.syntax import Syntax

        safe = "\n".join(plain(line) for line in text.splitlines())
        Console().print(Syntax(safe, language.partition("@")[0], theme="ansi_dark", background_color="default"))
        return
    for line in text.splitlines():
        typer.echo(f"  {plain(line.expandtabs())}")


def logs(
    job_id: JobId, follow_: Follow = False, attempt: AttemptNumber = None, as_json: AsJson = False
) -> None:
    """Print what a job wrote, byte for byte, to the same streams; with -f also what it writes until it ends.

    With --json its events, one a line: `id`, `kind` and `data`.
    """
    if follow_ and attempt is not None:
        raise typer.BadParameter("give --follow or --attempt, not both")
    with service() as client:
        if as_json and attempt is None:
            job = client.get(job_id)
            if follow_ or job.ended:
                for event in client.events(job):
                    typer.echo(json.dumps(event.document, ensure_ascii=False))
                return
            say("it has not ended; -f follows it")
        elif follow_:
            job = client.get(job_id)
            say(summary(follow(client, job, live=True, files=True)))
        elif attempt is not None:
            found = client.attempt(job_id, attempt)
            print_json(found.document) if as_json else outputs(found)
        else:
            job = client.get(job_id)
            outputs(job)
            if not job.ended:
                say("it has not ended; -f follows it")


def cancel(job_ids: JobIds, as_json: AsJson = False) -> None:
    """End jobs that have not ended. What runs is killed within a second.

    Exits with 64 if one of them had ended before, or does not exist.
    """
    _each(job_ids, "cancel", as_json=as_json)


def delete(job_ids: JobIds, as_json: AsJson = False) -> None:
    """Delete jobs that have ended, with their attempts and all that they left. Exits as `cancel` does."""
    _each(job_ids, "delete", as_json=as_json)


def _each(job_ids: list[str], what: str, *, as_json: bool) -> None:
    """Do it with each job, also after one with which it cannot be done."""
    from retort.client import Refused

    code, done = 0, []
    with service() as client:
        for job_id in job_ids:
            try:
                result = client.cancel(job_id) if what == "cancel" else client.delete(job_id)
            except Refused as refused:
                say(f"{job_id}: {refused}")
                code = exits.of_refusal(refused.status)
            else:
                done.append({"id": job_id} if result is None else result.document)
                if not as_json:
                    typer.echo(f"{job_id} {'cancelled' if what == 'cancel' else 'deleted'}")
    if as_json:
        print_json({"jobs": done})
    raise typer.Exit(code)


@submits(models=True)
def rerun(job_id: JobId, *, chosen: Chosen) -> None:
    """Run a job again, with what is given here in place of what it had. Exits as `retort run` does."""
    raise typer.Exit(
        submit(
            lambda client, wait_s: client.rerun(job_id, wait_s=wait_s, **chosen.options),
            as_json=chosen.as_json,
            detach=chosen.detach,
            live=None,
        )
    )
