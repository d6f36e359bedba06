"""Submit code or a task, show what comes of it, and say how the command exits: `run`, `ask`, `rerun`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from retort.cli import exits
from retort.cli.common import fail, print_json, service
from retort.cli.telling import describe, follow, say, show, summary

if TYPE_CHECKING:
    from retort.client import Job, Retort

#: Programs that end within this time (most) are shown by one request and its answer.
_FIRST_WAIT_S = 1


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
