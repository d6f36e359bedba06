"""Make sure that a container engine answers: find it, start it, or install it.

The engine belongs to the machine, not to us. One that we started is remembered in the state folder and ended
by `retort engine stop`; one that was there is left alone.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from retort import processes
from retort.state import StateFolder

START_WITHIN_S = 60.0
PACKAGES = ("docker.io", "iptables")
SYSTEMD = Path("/run/systemd/system")
_PID_FILE = "dockerd.pid"
_LOG = "dockerd.log"


class EngineError(Exception):
    """No engine, and none can be had from here; the message says what a person can do."""


def answers() -> str | None:
    """None when the engine answers, else why not."""
    import docker  # late: it takes a moment, and most commands do without
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=10)
    except DockerException as reason:
        return _plain(reason)
    try:
        client.ping()
    except (DockerException, OSError) as reason:
        return _plain(reason)
    finally:
        client.close()
    return None


def ensure(state: StateFolder, say: Callable[[str], None]) -> None:
    """Return once the engine answers.

    Raises:
        EngineError: it cannot be made to.
    """
    why_not = answers()
    if why_not is None:
        return
    if os.environ.get("DOCKER_HOST"):
        raise EngineError(
            f"DOCKER_HOST is set to {os.environ['DOCKER_HOST']}, where no engine answers: {why_not}"
        )
    if "Permission denied" in why_not:
        raise EngineError(
            "a Docker engine runs, but you may not use its socket. Run `sudo usermod -aG docker $USER`, log "
            "in again, and know that members of that group can become root."
        )
    sudo = _sudo()
    if sudo is None:
        raise EngineError(_advice(why_not))
    if shutil.which("dockerd", path=_path()) is None:
        _install(sudo, say)
        if answers() is None:  # the package started it: then it is ours to end, too
            _remember(state, int(Path("/var/run/docker.pid").read_text()))
            return
    _start(state, sudo, say)


def stop(state: StateFolder) -> bool:
    """End the engine if we started it; whether we did."""
    found = _ours(state)
    (state.root / _PID_FILE).unlink(missing_ok=True)
    if found is None:
        return False
    pid, begun = found
    processes.end_all(
        lambda: [pid] if processes.begun(pid) == begun else [],
        ((signal.SIGTERM, 20.0),),
    )
    return True


def remove_sandboxes(instance: str) -> int:
    """Remove what a worker that was killed left running; how many. A worker that ends by itself leaves none."""
    import docker
    from docker.errors import DockerException

    removed = 0
    try:
        client = docker.from_env(timeout=30)
    except DockerException:  # no engine, no sandboxes
        return 0
    try:
        found = client.api.containers(all=True, quiet=True, filters={"label": f"retort.instance={instance}"})
        for container in found:
            with suppress(DockerException):
                client.api.remove_container(container["Id"], force=True, v=True)
                removed += 1
    except (DockerException, OSError):
        return removed
    finally:
        client.close()
    return removed


def _ours(state: StateFolder) -> tuple[int, int] | None:
    """Pid and beginning of the engine that we started, while it lives."""
    try:
        pid, begun = map(int, (state.root / _PID_FILE).read_text().split())
    except (OSError, ValueError):
        return None
    return (pid, begun) if processes.begun(pid) == begun else None


def _remember(state: StateFolder, pid: int) -> None:
    state.create()
    (state.root / _PID_FILE).write_text(f"{pid} {processes.begun(pid) or 0}\n")


def _start(state: StateFolder, sudo: list[str], say: Callable[[str], None]) -> None:
    state.create()
    log = state.root / _LOG
    if SYSTEMD.is_dir():  # systemd is really what runs this machine
        say("starting Docker by systemd")
        subprocess.run([*sudo, "systemctl", "start", "docker"], check=False)
        child = None
    elif sudo:
        say("starting Docker by its service script")
        subprocess.run([*sudo, "service", "docker", "start"], check=False)
        child = None
    else:
        say("starting dockerd")
        _forget_stale_pids()
        with log.open("ab") as output:
            child = subprocess.Popen(
                ["dockerd"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PATH": _path()},
                start_new_session=True,  # it outlives this command and its terminal
            )
        _remember(state, child.pid)
    deadline = time.monotonic() + START_WITHIN_S
    while (why_not := answers()) is not None:
        if child is not None and child.poll() is not None:
            raise EngineError(f"dockerd ended. The end of {log}:\n{processes.last_lines(log)}")
        if time.monotonic() > deadline:
            raise EngineError(f"Docker was started but does not answer: {why_not}")
        time.sleep(0.2)


def _forget_stale_pids() -> None:
    """After a reboot the process ids in these files may be anyone's, and dockerd would wait for them."""
    for file, program in (("docker.pid", "dockerd"), ("docker/containerd/containerd.pid", "containerd")):
        path = Path("/var/run", file)
        try:
            pid = int(path.read_text())
        except (OSError, ValueError):
            continue
        try:
            running = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            running = ""
        if running != program:
            path.unlink(missing_ok=True)


def _install(sudo: list[str], say: Callable[[str], None]) -> None:
    if shutil.which("apt-get") is None:
        raise EngineError(_advice("it is not installed, and this system has no apt-get"))
    say(f"installing {' and '.join(PACKAGES)}; this takes a minute at most where the mirror is near")
    # Where no systemd runs, this run level keeps the package from starting the engine: `_start` does.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        say(f"apt-get {words[0]}")
        done = subprocess.run(
            [*sudo, "apt-get", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            check=False,
        )
        if done.returncode:
            tail = "\n".join(done.stdout.splitlines()[-10:])
            raise EngineError(f"`apt-get {' '.join(words)}` failed:\n{tail}\n{_advice('it is not installed')}")


def _sudo() -> list[str] | None:
    """How to become root: not at all, by sudo without a password, or (None) impossible."""
    if os.geteuid() == 0:
        return []
    allowed = shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n"] if allowed and allowed.returncode == 0 else None


def _path() -> str:
    """PATH with the folders where an ordinary one lacks dockerd."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _plain(reason: Exception) -> str:
    """The innermost cause: docker-py wraps errors of the socket several times over."""
    cause: BaseException = reason
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return getattr(cause, "strerror", None) or str(cause)


def _advice(why_not: str) -> str:
    return (
        f"no Docker engine answers: {why_not}. Retort runs every job in a container. On Debian or Ubuntu:\n"
        "    sudo apt-get install --no-install-recommends docker.io iptables\n"
        "    sudo service docker start      # or: sudo systemctl start docker\n"
        "    sudo usermod -aG docker $USER  # then log in again\n"
        "Elsewhere install Docker Engine or Docker Desktop and start it; DOCKER_HOST may point to another."
    )
