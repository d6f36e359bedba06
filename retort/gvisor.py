"""Make gVisor a runtime of this machine's Docker engine: `retort engine gvisor`.

Only on request: it changes the engine's configuration, which belongs to the machine. The engine reads it again
without a restart, so nothing that runs is disturbed.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from retort.engine import EngineError

CONFIG = Path("/etc/docker/daemon.json")
PID_FILE = Path("/var/run/docker.pid")
WITHIN_S = 20.0

#: Never kvm by itself: where a virtual machine only pretends to have it, containers hang and burn processors.
#: `--oci-seccomp`: our profile applies inside as well. `--network=none`: no network stack beyond loopback.
ARGUMENTS = ["--platform=ptrace", "--oci-seccomp", "--network=none"]

BY_HAND = (
    "Install runsc (https://gvisor.dev/docs/user_guide/install/), add to /etc/docker/daemon.json\n"
    '    {"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": '
    + json.dumps(ARGUMENTS)
    + "}}}\nand have the engine read it: `sudo kill -HUP $(cat /var/run/docker.pid)`."
)


def ensure(say: Callable[[str], None]) -> None:
    """Return once the engine knows the runtime `runsc`, and has its program.

    Raises:
        EngineError: it cannot be made to; the message says what a person can do.
    """
    if _registered():
        return
    if os.geteuid() != 0 or os.environ.get("DOCKER_HOST"):
        raise EngineError(f"this needs root on the engine's own machine.\n{BY_HAND}")
    program = shutil.which("runsc") or _install(say)
    CONFIG.write_text(json.dumps(with_runsc(_config(), program), indent=2) + "\n")
    say(f"registered runsc in {CONFIG}")
    try:
        os.kill(int(PID_FILE.read_text()), signal.SIGHUP)
    except (OSError, ValueError) as reason:
        raise EngineError(f"the engine could not be told to read {CONFIG}: {reason}") from None
    deadline = time.monotonic() + WITHIN_S
    while not _registered():
        if time.monotonic() > deadline:
            raise EngineError(f"the engine did not take up {CONFIG}; its log says why")
        time.sleep(0.1)


def with_runsc(config: dict[str, Any], program: str) -> dict[str, Any]:
    """The engine's configuration with the runtime added, and everything else as it was."""
    runtimes = {**config.get("runtimes", {}), "runsc": {"path": program, "runtimeArgs": ARGUMENTS}}
    return {**config, "runtimes": runtimes}


def _config() -> dict[str, Any]:
    if not CONFIG.exists():
        CONFIG.parent.mkdir(parents=True, exist_ok=True)
        return {}
    try:
        found = json.loads(CONFIG.read_text() or "{}")
    except ValueError as reason:
        raise EngineError(f"{CONFIG} is not JSON ({reason}); mend it first") from None
    if not isinstance(found, dict):
        raise EngineError(f"{CONFIG} is not a JSON object; mend it first")
    return found


def _registered() -> bool:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=20)
    except DockerException as reason:
        raise EngineError(f"no container engine answers: {reason}") from None
    try:
        return has_runsc(client.info().get("Runtimes") or {})
    finally:
        client.close()


def has_runsc(runtimes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the engine can start containers with it, by what it says of its runtimes.

    It keeps an entry whose program was removed from the machine since. Of another machine's programs we know
    nothing, and believe the entry.
    """
    if "runsc" not in runtimes:
        return False
    path = str(runtimes["runsc"].get("path") or "runsc")
    return bool(os.environ.get("DOCKER_HOST")) or shutil.which(path) is not None


def _install(say: Callable[[str], None]) -> str:
    if shutil.which("apt-get") is None:
        raise EngineError(BY_HAND)
    say("installing runsc")
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "runsc"]):
        done = subprocess.run(
            ["apt-get", *words],
            capture_output=True,
            text=True,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise EngineError(f"`apt-get {' '.join(words)}` failed: {done.stderr[-500:]}\n{BY_HAND}")
    program = shutil.which("runsc")
    if program is None:
        raise EngineError(BY_HAND)
    return program
