"""`retort up`, `down`, `status`, `env`: the service on this machine."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import Annotated, Any

import typer

from retort import commands, processes, readiness
from retort.cli.common import AsJson
from retort.state import AlreadyRunning, StateFolder

NOT_RUNNING = 3  # as init scripts say it
READY_WITHIN_S = 180.0
ENDED_WITHIN_S = 90.0

Host = Annotated[str, typer.Option(envvar="RETORT_HOST", help="Address to listen on.")]
Port = Annotated[int, typer.Option(envvar="RETORT_PORT", min=0, max=65535, help="0 takes any that is free.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when the service is ready.")]
Hello = Annotated[bool, typer.Option("--hello", help="Run a first job and print its result.")]
Grace = Annotated[float, typer.Option(min=0, help="Seconds for running jobs to end at a stop.")]
Logs = Annotated[bool, typer.Option("--logs/--no-logs", help="Show what API and worker log.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(env)


def up(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    detach: Detach = False,
    hello: Hello = False,
    grace: Grace = 30.0,
    logs: Logs = True,
) -> None:
    """Start the service: PostgreSQL, Valkey, API and worker. Ctrl-C ends it."""
    state = StateFolder.find()
    if detach:
        given = ["--host", host, "--port", str(port), "--grace", str(grace), "--no-logs"]
        raise typer.Exit(_detached(state, given, hello=hello))
    from retort.supervisor import Options, Supervisor

    options = Options(
        host=host,
        port=port,
        database_url=os.environ.get("RETORT_DATABASE_URL") or None,
        redis_url=os.environ.get("RETORT_REDIS_URL") or None,
        grace_s=grace,
        show_logs=logs,
        show_key=logs,  # detached, the output is a log, where no key belongs; `_detached` shows it
        hello=hello,
    )
    try:
        code = Supervisor(state, options, _say).run()
    except AlreadyRunning as reason:
        typer.echo(str(reason), err=True)
        code = 1
    raise typer.Exit(code)


def _say(source: str, line: str) -> None:
    colour = {"retort": "32", "api": "36", "worker": "35", "models": "34", "hooks": "33"}[source]
    name = f"\x1b[{colour}m{source:<6}\x1b[0m" if sys.stdout.isatty() else f"{source:<6}"
    for part in line.splitlines() or [""]:
        try:
            print(f"{time.strftime('%H:%M:%S')} {name} | {part}", flush=True)
        except OSError:  # the terminal or the reader is gone; the service stays
            return


def _detached(state: StateFolder, given: list[str], *, hello: bool) -> int:
    """Start a supervisor that outlives us and the terminal; return when it is ready or has failed."""
    holder = state.holder()
    if holder is not None:
        typer.echo(str(AlreadyRunning(state.root, holder)), err=True)
        return 1
    state.create()
    known_key = state.api_key()
    log = state.logs / "up.log"
    shown = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        supervisor = subprocess.Popen(
            commands.python("retort.cli.main", "up", *given),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": commands.environment().get("PYTHONPATH", "")},
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        time.sleep(0.05)
        with log.open("rb") as file:
            file.seek(shown)
            news = file.read()
        shown += len(news)
        sys.stdout.write(news.decode(errors="replace"))
        sys.stdout.flush()
        if supervisor.poll() is not None:
            return supervisor.returncode or 1
        found = state.status()
        if found.get("ready") and found.get("supervisor") == supervisor.pid:  # not what a crash left
            if state.api_key() != known_key:
                typer.echo(f"the first API key, shown only now: {state.api_key()}")
            return _hello(state, found["url"]) if hello else 0
        if time.monotonic() > deadline:
            typer.echo(
                f"not ready after {READY_WITHIN_S:g} s: {found.get('waiting_for')}. It goes on trying; "
                "`retort status` shows how it stands, `retort down` ends it.",
                err=True,
            )
            return 1


def _hello(state: StateFolder, url: str) -> int:
    from retort.starting import start_hello

    return start_hello(url, state.api_key() or os.environ.get("RETORT_API_KEY", "")).wait()


def down() -> None:
    """End the service that was started from this folder."""
    from retort import engine

    state = StateFolder.find()
    pid = state.holder()
    if pid is None:
        from retort.children import end_recorded

        if state.root.exists() and (end_recorded(state) or engine.remove_sandboxes(state.instance)):
            typer.echo("ended what a supervisor that was killed had left")
        else:
            typer.echo("not running")
    else:
        _end_supervisor(state, pid)
    if engine.stop(state):
        typer.echo("ended the Docker engine that was started for Retort")


def _end_supervisor(state: StateFolder, pid: int) -> None:
    began = processes.begun(pid)
    if not pid or began is None:  # it took the lock in this very moment, or gave it up
        time.sleep(0.5)
        pid = state.holder() or 0
        began = processes.begun(pid) if pid else None
        if began is None:
            typer.echo("not running")
            return
    typer.echo("stopping; running jobs may end first")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + ENDED_WITHIN_S
    while processes.begun(pid) == began:
        if time.monotonic() > deadline:
            typer.echo(f"process {pid} does not end; its log is in {state.logs}", err=True)
            raise typer.Exit(1)
        time.sleep(0.05)
    typer.echo("stopped")


def status(as_json: AsJson = False) -> None:
    """Show each process and whether the service is ready.

    Exits with 0 (ready), 1 (not ready) or 3 (not running).
    """
    state = StateFolder.find()
    found: dict[str, Any] = state.status()
    holder = state.holder()
    running = holder is not None and found.get("supervisor") == holder
    ready = (
        readiness.ask(found["host"], found["port"]) if running else readiness.Readiness(False, "not running")
    )
    document = {
        "running": running,
        "ready": ready.ok,
        "why_not": ready.why_not or None,
        "url": found.get("url") if running else None,
        "supervisor": holder or None,
        "state_dir": str(state.root),
        "processes": {
            name: {"title": facts["title"], "pid": facts["pid"], "crashes": facts["crashes"],
                   "running": bool(facts["pid"]) and processes.begun(facts["pid"]) == facts["begun"]}
            for name, facts in (found.get("processes", {}) if running else {}).items()
        },
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        _print_status(document)
    raise typer.Exit(0 if ready.ok else 1 if running else NOT_RUNNING)


def _print_status(document: dict[str, Any]) -> None:
    for facts in document["processes"].values():
        how = f"running, process {facts['pid']}" if facts["running"] else "not running"
        crashes = f", {facts['crashes']} crashes" if facts["crashes"] else ""
        typer.echo(f"{facts['title']:<11}{how}{crashes}")
    if document["ready"]:
        typer.echo(f"ready at {document['url']}")
    elif document["running"]:
        typer.echo(f"not ready: {document['why_not']}")
    else:
        typer.echo(f"not running (state folder {document['state_dir']})")


def env() -> None:
    """Print shell lines that tell clients where the service is: eval "$(retort env)"."""
    state = StateFolder.find()
    url = state.status().get("url") if state.holder() is not None else None
    if url is None:
        typer.echo(f"Retort is not running in {state.root}: start it with `retort up`", err=True)
        raise typer.Exit(NOT_RUNNING)
    typer.echo(f"export RETORT_URL={shlex.quote(url)}")
    key = state.api_key()
    if key is None:
        typer.echo(
            f"{state.api_key_file} holds no key: the database had keys before. Create one with "
            "`python -m api.keys create NAME`",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo(f"export RETORT_API_KEY={shlex.quote(key)}")
