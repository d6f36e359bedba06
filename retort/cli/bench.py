"""`retort bench`: measure models against each other, or the execution side alone."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.cli import exits

if TYPE_CHECKING:
    from retort.bench.measurement import Measurement
    from retort.bench.plan import Plan
    from retort.bench.report import Report
    from retort.bench.runner import Progress
    from retort.bench.service import BenchClient

#: Measurements after which a line says how far it is, where no terminal shows it.
EVERY = 10

WRONG = 1  # a benchmark that is complete, but in which something on the execution side was wrong

Files = Annotated[
    list[Path] | None,
    typer.Argument(help="Files of tasks of your own; without --set only these are measured.", dir_okay=False),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="A model to measure; again for each; all: every one that is served."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="named, categories, probes, large, isolation; again for each."),
]
Only = Annotated[list[str] | None, typer.Option("--only", help="Of the tasks only this; again for each.")]
Iterations = Annotated[
    int, typer.Option("--iterations", "-n", min=1, max=10_000, help="Times that each is run.")
]
Concurrency = Annotated[int, typer.Option("--concurrency", "-c", min=1, max=256, help="Runs at the same time.")]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, help="Runs between two pauses; else twice the concurrency.")
]
Pause = Annotated[float, typer.Option("--pause", min=0, max=60, help="Seconds between two batches.")]
Attempts = Annotated[int | None, typer.Option("--attempts", min=1, help="Programs that a model may try.")]
Preset = Annotated[str | None, typer.Option("--preset", help="Named settings for every model.")]
Recall = Annotated[
    list[int] | None,
    typer.Option("--recall", min=500, max=250_000, help="Recall from a text of about so many tokens."),
]
Burst = Annotated[
    int, typer.Option("--burst", min=0, max=500, help="Programs at once, at first, to see cold sandboxes.")
]
Reuse = Annotated[bool, typer.Option("--reuse", help="Run in sandboxes that an earlier run was in.")]
ModelsOnly = Annotated[bool, typer.Option("--models-only", help="Leave the execution side out.")]
Spend = Annotated[
    str | None, typer.Option("--spend", help="US dollars after which no further run of a model begins.")
]
Out = Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for journal and report.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever the folder holds.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(bench)


def bench(
    files: Files = None,
    models: Models = None,
    sets: Sets = None,
    only: Only = None,
    iterations: Iterations = 5,
    concurrency: Concurrency = 4,
    batch: Batch = None,
    pause: Pause = 0.1,
    attempts: Attempts = None,
    preset: Preset = None,
    recall: Recall = None,
    burst: Burst = 0,
    reuse: Reuse = False,
    models_only: ModelsOnly = False,
    spend: Spend = None,
    out: Out = Path("retort-bench"),
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Measure models on the same tasks, and the execution side on right programs for them.

    Without --model no model is asked and nothing is paid. What was measured is kept as it comes: after an
    interruption the same command goes on where it was. Leaves report.html, report.json, figures.csv and
    runs.csv in the folder.

    Exits with 0; 1 if a program on the execution side went wrong; 75 if --spend ended it; 64, 69 and 77 as
    `retort run`.
    """
    from retort.bench.asking import Settings
    from retort.bench.choosing import USUAL, choose
    from retort.bench.plan import Plan
    from retort.bench.tasks import TaskError

    if models_only and not models:
        raise typer.BadParameter("needs --model", param_hint="--models-only")
    if sets is None:
        sets = [] if files or recall else list(USUAL)
    try:
        tasks = choose(sets, files or (), only or (), recall or ())
    except TaskError as error:
        typer.echo(f"retort: {error}", err=True)
        raise typer.Exit(exits.USAGE) from None
    plan = Plan(
        tasks=tuple(tasks),
        models=tuple(dict.fromkeys(models or ())),
        iterations=iterations,
        concurrency=concurrency,
        batch=batch or 2 * concurrency,
        pause_s=pause,
        execution=not models_only,
        burst=burst,
        settings=Settings(attempts=attempts, preset=preset, reuse=reuse, labels={"retort": "bench"}),
    )
    raise typer.Exit(_bench(plan, out, _amount(spend), fresh=fresh, as_json=as_json))


def _bench(plan: "Plan", out: Path, spend: Decimal | None, *, fresh: bool, as_json: bool) -> int:
    from retort.bench.journal import JournalError
    from retort.bench.tasks import TaskError
    from retort.bench.writing import write
    from retort.client.errors import ConfigError, Refused, UnexpectedAnswer, Unreachable

    try:
        with _progress() as progress:
            report = asyncio.run(_measure(plan, out, spend, progress, fresh=fresh))
    except (JournalError, TaskError, OSError) as error:
        typer.echo(f"retort: {error}", err=True)
        return exits.USAGE
    except Refused as refused:
        typer.echo(f"retort: {refused}", err=True)
        return exits.of_refusal(refused.status)
    except ConfigError as error:
        typer.echo(f"retort: {error}", err=True)
        return exits.CONFIGURATION
    except (Unreachable, UnexpectedAnswer) as reason:
        typer.echo(f"retort: {reason}; what was measured is kept, the same command goes on", err=True)
        return exits.UNREACHABLE
    except KeyboardInterrupt:
        typer.echo("retort: interrupted; what was measured is kept, the same command goes on", err=True)
        return exits.INTERRUPTED
    written = write(report, out)
    _show(report, as_json=as_json)
    for path in written:
        typer.echo(f"retort: {path}", err=True)
    return _exit_code(report)


async def _measure(
    plan: "Plan", out: Path, spend: Decimal | None, progress: "Progress", *, fresh: bool
) -> "Report":
    from retort.bench.journal import Journal
    from retort.bench.report import Report
    from retort.bench.runner import Runner
    from retort.bench.service import BenchClient
    from retort.bench.tasks import TaskError
    from retort.bench.writing import JOURNAL
    from retort.client import Config

    async with BenchClient(Config.find(), max(plan.concurrency, plan.burst)) as client:
        plan = await _with_models(plan, client)
        if fresh:
            (out / JOURNAL).unlink(missing_ok=True)
        if not plan.items():
            raise TaskError("nothing to measure: no task has what these subjects need")
        with Journal.open(out / JOURNAL, plan) as journal:
            if journal.done:
                typer.echo(f"retort: {len(journal.done)} measurements are there already", err=True)
            complete = await Runner(plan, client, journal, spend_usd=spend, progress=progress).run()
            return Report(plan, tuple(journal.done.values()), journal.started_at, complete)


async def _with_models(plan: "Plan", client: "BenchClient") -> "Plan":
    """The plan with the catalogue's names of its models; says so where none is asked though some could be."""
    from dataclasses import replace

    from retort.bench.tasks import TaskError

    cards = (await client.models()).document["models"]
    served = [card["name"] for card in cards if card["available"]]
    if not plan.models:
        if served and plan.execution:
            typer.echo(f"retort: no model is asked; --model all would ask {', '.join(served)}", err=True)
        return plan
    names = {alias: card["name"] for card in cards for alias in (card["name"], *card["aliases"])}
    wanted = [name for each in plan.models for name in (served if each == "all" else [names.get(each, each)])]
    if missing := [name for name in wanted if name not in served]:
        allowed = ", ".join(served) or "none: no gateway is configured"
        raise TaskError(f"model: {missing[0]} is not served (allowed: {allowed})")
    if not wanted:
        raise TaskError("model: none is served; docs/models.md says how to configure a gateway")
    return replace(plan, models=tuple(dict.fromkeys(wanted)))


def _show(report: "Report", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
        return
    from rich.console import Console

    from retort.bench.table import show

    # Where nobody sees the width of a screen, no line is broken.
    show(report, Console() if sys.stdout.isatty() else Console(width=200))


def _exit_code(report: "Report") -> int:
    if not report.complete:
        return exits.UNFINISHED
    execution = report.execution()
    wrong = execution is not None and any(each.wrong or each.errors for each in execution.found.values())
    return WRONG if wrong else 0


def _amount(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise typer.BadParameter(f"{text!r} is no amount of dollars above 0", param_hint="--spend")
    return amount


@contextmanager
def _progress() -> "Iterator[Progress]":
    """A bar on a terminal; elsewhere a line now and then. Both on standard error."""
    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, all_, last: bar.update(
            task, completed=done, total=all_, description=f"{last.subject} {last.task}: {last.judgement}"
        )


def _line(done: int, all_: int, last: "Measurement") -> None:
    if not last.burst and (done % EVERY == 0 or done == all_):
        typer.echo(f"retort: {done} of {all_} measured", err=True)
