"""Steps of a start that end by themselves: a port that is free, a command, a first job."""

import socket
import subprocess
import sys
from pathlib import Path

from retort import commands, processes

HELLO = """\
import platform
print(f"Hello from Python {platform.python_version()}, in a sandbox of its own.")
"""


class StartFailed(Exception):
    """The service cannot start; the message says why and what to do."""


def free_port(host: str, port: int) -> int:
    """`port` if it can be had, or any free one for 0.

    Raises:
        StartFailed: it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as reason:
            raise StartFailed(
                f"cannot listen on {host}:{port} ({reason.strerror}). Choose another port with --port or "
                "RETORT_PORT; 0 takes any that is free."
            ) from None
        return int(trial.getsockname()[1])


def run_once(what: str, command: list[str], env: dict[str, str], log: Path) -> bytes:
    """A command that ends by itself; what it prints is the result, its errors go to `log`.

    Raises:
        StartFailed: it failed.
    """
    with log.open("ab") as errors:
        # Its own session: a Ctrl-C is for us alone, and a migration is not to be torn.
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=env,
            start_new_session=True,
            check=False,
        )
    if done.returncode:
        raise StartFailed(f"{what} failed. The end of {log}:\n{processes.last_lines(log, 15)}")
    return done.stdout


def start_hello(url: str, key: str) -> subprocess.Popen[bytes]:
    """A first job, by the same way as any: `retort run` over HTTP. Its result goes to our own output."""
    env = commands.environment(RETORT_URL=url) | {"RETORT_API_KEY": key}
    sys.stdout.flush()
    hello = subprocess.Popen(
        commands.python("retort.cli.main", "run", "-"), stdin=subprocess.PIPE, env=env, start_new_session=True
    )
    assert hello.stdin is not None  # noqa: S101 - a pipe was asked for
    with hello.stdin as given:
        given.write(HELLO.encode())
    return hello
