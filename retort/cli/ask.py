"""`retort ask TASK`: have a model write a program for a task, run it, and show what it prints."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from retort.cli.options import Chosen, Files, Language, submits
from retort.cli.submitting import submit

Task = Annotated[str, typer.Argument(help="What to do, in words; - reads it from standard input.")]
Check = Annotated[
    Path | None, typer.Option("--check", "--tests", exists=True, dir_okay=False, help="A file of tests.")
]
Expect = Annotated[
    Path | None, typer.Option("--expect", exists=True, dir_okay=False, help="A file with the expected output.")
]
ShowCode = Annotated[bool, typer.Option("--code", help="Print the program instead of its output.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(ask)


@submits(models=True)
def ask(
    task: Task,
    *,
    language: Language = "python",
    check: Check = None,
    expect: Expect = None,
    files: Files = None,
    show_code: ShowCode = False,
    chosen: Chosen,
) -> None:
    """Have a model write a program for a task, run it, repair it where it fails, and show what it prints.

    Progress, one line per attempt, goes to standard error. Exits as `retort run` does; 119 says that no model
    gave a program, 123 that the check failed.
    """
    if check is not None and expect is not None:
        raise typer.BadParameter("give --check or --expect, not both")
    words = sys.stdin.read() if task == "-" else task
    wanted = None if expect is None else expect.read_text(encoding="utf-8")
    options = chosen.also(language=language, check=check, expect=wanted, files=files)
    raise typer.Exit(
        submit(
            lambda client, wait_s: client.submit(task=words, wait_s=wait_s, **options),
            as_json=chosen.as_json,
            live=False,
            detach=chosen.detach,
            show_code=show_code,
        )
    )
