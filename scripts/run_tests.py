"""`make test`: everything the tests need, then pytest, whose last line is the last one printed.

Whatever was started for the tests is ended afterwards, however they end.
"""

import os
import subprocess
import sys
from pathlib import Path

import docker

from retort import engine
from retort.state import StateFolder

ROOT = Path(__file__).resolve().parent.parent
LABEL = "retort.instance"


def say(line: str) -> None:
    """Progress, before the tests."""
    print(f"test: {line}", flush=True)


def leftovers() -> list[str]:
    """Sandboxes that exist, and whose; on an engine of our own, all of them are the tests'."""
    client = docker.from_env()
    try:
        found = client.containers.list(all=True, filters={"label": LABEL})
        names = [f"{c.name} ({c.status}, {c.labels[LABEL]})" for c in found]
        for container in found:
            container.remove(force=True)
    finally:
        client.close()
    return names


def main(arguments: list[str]) -> int:
    """Run pytest with `arguments`; its exit code, or 1 if it leaves sandboxes behind."""
    # A folder of its own: the tests do not end an engine that `make run` started, nor the reverse.
    state = StateFolder(ROOT / ".retort" / "test")
    had_engine = engine.answers() is None
    try:
        engine.ensure(state, say)
        say("building the sandbox images that are missing")
        build = [sys.executable, "-m", "worker.sandbox.images", "build", "--quiet"]
        subprocess.run(build, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
        command = [sys.executable, "-m", "pytest", *_side_by_side(arguments), *arguments]
        code = _wait(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL))
        left = [] if had_engine else leftovers()
    except engine.EngineError as reason:
        print(f"test: {reason}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        return failed.returncode
    finally:
        engine.stop(state)
    if left:
        print(f"test: the tests left sandboxes behind: {', '.join(left)}", file=sys.stderr)
    return code or bool(left)


def _side_by_side(arguments: list[str]) -> list[str]:
    """Several processes, unless the caller chose: each has services and whole modules of its own."""
    if any(argument.startswith(("-n", "--pdb")) for argument in arguments):
        return []
    return ["-n", str(min(4, max(2, os.cpu_count() or 2))), "--dist", "loadfile"]


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait through a Ctrl-C, which pytest gets, too, and answers with its summary."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
