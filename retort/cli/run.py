"""`retort run FILE`: run code on the service, as if it ran here."""

from pathlib import Path
from typing import Annotated

import typer

from retort.cli.common import read_input
from retort.cli.options import Chosen, Files, Language, submits
from retort.cli.submitting import submit

File = Annotated[str, typer.Argument(help="The program; - reads it from standard input.")]
Args = Annotated[list[str] | None, typer.Argument(help="The program's own arguments, after --.")]
Stdin = Annotated[str | None, typer.Option("--stdin", help="A file for the program to read; - passes ours on.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(run)


@submits()
def run(
    file: File,
    args: Args = None,
    *,
    language: Language = None,
    stdin: Stdin = None,
    files: Files = None,
    chosen: Chosen,
) -> None:
    """Run a program in a sandbox of the service and show what it prints, while it prints it.

    The language follows from the file's name, unless it is given. Exits with the program's exit code, 128 and
    the number of the signal that ended it, 124 for a timeout, 137 for out of memory; 69, 70 and 77 say that
    the service, not the program, is at fault.
    """
    if file == "-" and stdin == "-":
        raise typer.BadParameter("the program and its input cannot both come from standard input")
    code = _text(file, "a program")
    given = "" if stdin is None else _text(stdin, "what --stdin takes")
    options = chosen.also(args=args, stdin=given, files=files, language=language or _language(file))
    raise typer.Exit(
        submit(
            lambda client, wait_s: client.submit(code, wait_s=wait_s, **options),
            as_json=chosen.as_json,
            detach=chosen.detach,
        )
    )


def _language(file: str) -> str:
    from retort.client.requests import LANGUAGES

    return LANGUAGES.get(Path(file).suffix.lower(), "python")


def _text(name: str, what: str) -> str:
    try:
        return read_input(name).decode()
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{name} is not UTF-8 text, which {what} must be") from None
