"""What the commands that use the service share: a client, errors as exit codes, tables, JSON.

Without a terminal there are no colours and no bars, and tables are lines with tabs, for other programs to read.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from retort.cli import exits

if TYPE_CHECKING:
    from retort.client import Retort

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id.", show_default=False)]
AttemptNumber = Annotated[int | None, typer.Option("--attempt", min=1, help="By default the last.")]


@contextmanager
def service(on_interrupt: str = "interrupted", advice: str = "") -> Iterator["Retort"]:
    """A client of the service. What goes wrong ends the command with a sentence and an exit code.

    `advice` is added where nobody answers.
    """
    from dataclasses import replace

    from retort.client import Config, ConfigError, Refused, Retort, RetortError

    try:
        # Whoever waits at a terminal knows best for how long.
        with Retort(replace(Config.find(), timeout_s=None)) as client:
            yield client
    except Refused as refused:
        fail(refused, exits.of_refusal(refused.status))
    except ConfigError as reason:
        fail(reason, exits.CONFIGURATION)
    except RetortError as reason:
        fail(f"{reason}{advice}", exits.UNREACHABLE)
    except BrokenPipeError:  # the reader has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        fail(on_interrupt, exits.INTERRUPTED)


def fail(reason: object, code: int) -> NoReturn:
    """End the command with a sentence on standard error."""
    typer.echo(f"retort: {reason}", err=True)
    raise typer.Exit(code)


def read_input(name: str) -> bytes:
    """The bytes of a file, or of our standard input for `-`."""
    from pathlib import Path

    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as reason:
        fail(f"{name}: {reason.strerror}", exits.NO_INPUT)


def print_json(document: Any) -> None:
    """Print a JSON document."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows: a table on a terminal, else a line for each, with tabs between the columns."""
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(plain(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*(Text(plain(cell), style=STYLES.get(str(cell), "")) for cell in row))
    Console().print(shown)


#: Colours of words on a terminal.
STYLES = {
    **dict.fromkeys(("ok", "valid"), "green"),
    **dict.fromkeys(("queued", "generating", "running"), "cyan"),
    **dict.fromkeys(("error", "broken", "check_failed"), "red"),
    **dict.fromkeys(("timeout", "out_of_memory"), "yellow"),
    **dict.fromkeys(("cancelled", "revoked", "expired"), "dim"),
}


def plain(value: object) -> str:
    r"""A value as one line that does nothing to a terminal: programs choose names and reasons.

    >>> plain("a\x1b[2Jb\nc\u202e")
    'a\\x1b[2Jb\\x0ac\\u202e'
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().isoformat(" ", "seconds")
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode().replace("\\n", "\\x0a")
        for each in str(value)
    )
