"""A container engine of our own: it can be killed and started again while the machine's goes on untouched.

It keeps all it has in one folder, has no network, and runs containers as the machine's does.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
from docker.errors import DockerException

from retort import processes
from tests.faults.disk import mounted
from tests.harness import eventually
from worker.sandbox import images

#: Seconds that it gives containers to end by themselves when it is told to end.
SHUTDOWN_S = 1

#: Of its disk; what it does not use takes no room.
DISK_MB = 3072


class Dockerd:
    """See the module. Made by `own_engine`."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "docker.sock"
        self.data = folder / "data"  # a file system of its own, which can be filled
        self.spares = False  # whether it finds containers as it left them when it is started again
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None  # lives on, as where both are services
        self._client: docker.DockerClient | None = None

    @property
    def client(self) -> docker.DockerClient:
        """Talks to it."""
        if self._client is None:
            self._client = docker.DockerClient(f"unix://{self.socket}", version="auto", timeout=60)
        return self._client

    def start(self) -> None:
        """Start it, and return when it answers."""
        folder = self._folder
        settings = {
            "data-root": str(self.data),
            "exec-root": str(folder / "exec"),
            "pidfile": str(folder / "pid"),
            "hosts": [f"unix://{self.socket}"],
            "containerd": str(folder / "containerd.sock"),
            "bridge": "none",
            "iptables": False,
            "ip-forward": False,
            "live-restore": self.spares,
            "shutdown-timeout": SHUTDOWN_S,
        }
        (folder / "daemon.json").write_text(json.dumps(settings))
        if self._containerd is None:
            places = ("--root", folder / "containerd", "--state", folder / "tasks")
            self._containerd = self._spawn("containerd", "--address", folder / "containerd.sock", *places)
            eventually((folder / "containerd.sock").exists, self._why_not, 60)
        # In a network of its own: an engine without a bridge removes the one that the machine's has.
        self._process = self._spawn("unshare", "--net", "dockerd", "--config-file", folder / "daemon.json")
        eventually(self._answers, self._why_not, 60)

    def _spawn(self, *args: str | Path) -> subprocess.Popen[bytes]:
        return processes.spawn(
            args,
            log=self._folder / "engine.log",
            env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        )

    def _answers(self) -> bool:
        with suppress(DockerException, OSError):
            return bool(self.client.ping())
        return False

    def _why_not(self) -> str:
        return f"an engine of our own answers: {(self._folder / 'engine.log').read_text()[-2000:]}"

    def end(self, how: signal.Signals) -> None:
        """End it: as a crash does (SIGKILL), or politely (SIGTERM)."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(60)

    def take(self, machine: docker.DockerClient, tag: str) -> None:
        """Copy an image from the machine's engine."""
        content = machine.images.get(tag).save(named=tag)
        self.client.images.load(content)  # type: ignore[arg-type]  # what can be iterated is streamed

    def close(self) -> None:
        """End it and leave nothing of it."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGTERM)
        if self._client is not None:
            self._client.close()
        if self._containerd is not None:
            processes.end(self._containerd)
        for process in _named(self._folder):  # those that held containers
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted(mounts, reverse=True):
            if mount.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


def _named(folder: Path) -> list[int]:
    """Processes with this folder in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def why_not() -> str | None:
    """Why no engine can be started here; None if one can."""
    if os.geteuid() != 0:
        return "needs root, for an engine of its own"
    if shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        return "needs dockerd, for an engine of its own"
    return None


@contextmanager
def own_engine(folder: Path, machine: docker.DockerClient) -> Iterator[Dockerd]:
    """One that has the image of Python's sandboxes; it ends with the block."""
    folder.mkdir()
    made = Dockerd(folder)
    with mounted(made.data, folder / "data.img", DISK_MB):
        try:
            made.start()
            made.take(machine, images.expected_tag("python"))
            yield made
        finally:
            made.close()
