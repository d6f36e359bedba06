"""`make test`: everything the tests need, then pytest, whose last line is the last one printed.

Whatever was started for the tests is ended afterwards, however they end.
"""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import docker

from retort import engine, gvisor
from retort.state import StateFolder
from scripts.get_browser import NoBrowser, ensure_browser

ROOT = Path(__file__).resolve().parent.parent
LABEL = "retort.instance"


def say(line: str) -> None:
    """Progress, before the tests."""
    print(f"test: {line}", flush=True)


def sandboxes() -> dict[str, str]:
    """Each sandbox that exists, by id: its name, state and whose it is."""
    client = docker.from_env().api
    try:
        found = client.containers(all=True, filters={"label": LABEL})
        return {c["Id"]: f"{c['Names'][0]} ({c['State']}, {c['Labels'][LABEL]})" for c in found}
    finally:
        client.close()


def leftovers(before: Collection[str]) -> list[str]:
    """Sandboxes that were not there `before`; they are removed. On an engine of our own they are the tests'."""
    client = docker.from_env().api
    try:
        left = {key: said for key, said in sandboxes().items() if key not in before}
        for key in left:
            client.remove_container(key, force=True)
    finally:
        client.close()
    return list(left.values())


def main(arguments: list[str]) -> int:
    """Run pytest with `arguments`; its exit code, or 1 if it leaves sandboxes behind."""
    # A folder of its own: the tests do not end an engine that `make run` started, nor the reverse.
    state = StateFolder(ROOT / ".retort" / "test")
    had_engine = engine.answers() is None
    try:
        ensure_browser(say)
        engine.ensure(state, say)
        if os.environ.get("CI") and not had_engine:
            _second_tier()
        before = sandboxes()  # of a service that was killed together with its engine
        say("building the sandbox images that are missing")
        build = [sys.executable, "-m", "worker.sandbox.images", "build", "--quiet"]
        subprocess.run(build, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
        command = [sys.executable, "-m", "pytest", *_side_by_side(arguments), *arguments]
        code = _wait(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL))
        left = [] if had_engine else leftovers(before)
    except (NoBrowser, engine.EngineError) as reason:
        print(f"test: {reason}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        return failed.returncode
    finally:
        engine.stop(state)
    if left:
        print(f"test: the tests left sandboxes behind: {', '.join(left)}", file=sys.stderr)
    return code or bool(left)


def _second_tier() -> None:
    """On a machine of nobody's, the tests of the sandbox run on both tiers, where gVisor can be had."""
    try:
        gvisor.ensure(say)
    except engine.EngineError as reason:
        say(f"gVisor cannot be had here, so its tier is not tested: {str(reason).splitlines()[0]}")


def _side_by_side(arguments: list[str]) -> list[str]:
    """Several processes, unless the caller chose: each has services and whole modules of its own."""
    if any(argument.startswith(("-n", "--pdb")) for argument in arguments):
        return []
    # They wait more than they work: two on two processors leave half of the time unused. In the order of the
    # folders, for the few tests of whole services take longest, and should not be last.
    return ["-n", str(min(4, max(3, os.cpu_count() or 2))), "--dist", "loadfile", "--no-loadscope-reorder"]


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait through a Ctrl-C, which pytest gets, too, and answers with its summary."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
