"""`retort up` as a person uses it: separate processes, a folder of its own, a real job at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from retort import processes
from retort.state import StateFolder

pytestmark = pytest.mark.usefixtures("engine")

SLEEPER = "import time; print('on', flush=True); time.sleep(50)"


@dataclass(frozen=True)
class Install:
    """A folder in which `retort` is called."""

    folder: Path

    @property
    def state(self) -> StateFolder:
        """Its state folder."""
        return StateFolder(self.folder / ".retort")

    @property
    def env(self) -> dict[str, str]:
        """Ours, without what points to another service; of one language alone are cells kept from the start."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
        few = {"RETORT_WARM_LANGUAGES": "python", "RETORT_WARM_LEAST": "1"}
        return kept | few | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def command(self, *words: str) -> list[str]:
        """The command line of one call."""
        return [sys.executable, "-P", "-m", "retort.cli.main", *words]

    def call(self, *words: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run `retort` to its end."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.env | env,
            input=given,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def up(self, *words: str) -> None:
        """Start detached on any free port; return when ready."""
        done = self.call("up", "--detach", "--port", "0", *words)
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """What `retort status` says."""
        found: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return found

    def left(self) -> list[str]:
        """Processes and sandboxes of this folder that exist."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or processes.begun(int(entry.name)) is None:
                continue
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(self.state.root).encode() in text and int(entry.name) != os.getpid():
                found.append(f"process {entry.name}")
        client = (
            docker.from_env().api
        )  # which lists in one call; asking for each in turn fails on one that ends
        label = f"retort.instance={self.state.instance}"
        found += [str(cell["Id"]) for cell in client.containers(all=True, filters={"label": label})]
        client.close()
        return found


@pytest.fixture
def install() -> Iterator[Install]:
    """A folder without a service, and none left in it afterwards."""
    with tempfile.TemporaryDirectory(prefix="retort-test-") as name:
        made = Install(Path(name))
        try:
            yield made
        finally:
            made.call("down")


@pytest.fixture(scope="module")
def service() -> Iterator[Install]:
    """A service that several tests share."""
    with tempfile.TemporaryDirectory(prefix="retort-test-") as name:
        made = Install(Path(name))
        try:
            made.up()
            yield made
        finally:
            made.call("down")


def wait_for(what: Callable[[], bool], within_s: float = 30, told: Callable[[], str] = str) -> None:
    """Look until it is so; `told` says what there was instead."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"it did not become so in time {told()}"
        time.sleep(0.1)


def test_a_program_runs_and_its_exit_code_comes_back(service: Install) -> None:
    done = service.call("run", "-", "--", "a b", given="import sys; print(sys.argv[1:]); sys.exit(7)")
    assert done.stdout == "['a b']\n"
    assert done.returncode == 7
    assert "error (exit code 7), wall" in done.stderr


def test_env_is_what_another_shell_needs(service: Install) -> None:
    done = service.call("env")
    assert done.returncode == 0
    script = 'eval "$1"; cd /; exec "$2" -P -m retort.cli.main run -'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", done.stdout, sys.executable],
        input="print(6 * 7)",
        env=service.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shell.returncode, shell.stdout) == (0, "42\n")


def test_status_knows_every_process(service: Install) -> None:
    found = service.status()
    assert found["ready"] is True
    assert set(found["processes"]) == {"postgres", "valkey", "api", "worker", "hooks"}
    assert all(facts["running"] for facts in found["processes"].values())
    assert service.call("status").returncode == 0


def test_a_second_up_in_the_same_folder_is_refused(service: Install) -> None:
    for words in (["up", "--port", "0"], ["up", "--detach", "--port", "0"]):
        done = service.call(*words)
        assert done.returncode == 1
        assert "already running" in done.stderr
    assert service.status()["ready"]


def test_the_key_is_in_no_log_and_no_command_line(service: Install) -> None:
    key = service.state.api_key()
    assert key
    for log in service.state.logs.iterdir():
        assert key not in log.read_text(errors="replace")
    for facts in service.status()["processes"].values():
        assert key.encode() not in Path(f"/proc/{facts['pid']}/cmdline").read_bytes()
        assert key.encode() not in Path(f"/proc/{facts['pid']}/environ").read_bytes()


@pytest.mark.parametrize("name", ["hooks", "worker", "api", "valkey", "postgres"])
def test_a_process_that_crashes_is_started_again(name: str, service: Install) -> None:
    before = service.status()["processes"][name]["pid"]
    os.kill(before, signal.SIGKILL)

    def again() -> bool:
        found = service.status()
        return bool(found["ready"] and found["processes"][name]["pid"] not in (None, before))

    wait_for(again, 90, lambda: processes.last_lines(service.state.logs / "up.log"))
    wait_for(lambda: service.call("run", "-", given="print(1)").stdout == "1\n")


def test_stop_and_second_start(install: Install) -> None:
    install.up()
    key = install.state.api_key()
    assert install.call("down").returncode == 0
    assert install.left() == []
    assert install.call("status").returncode == 3
    assert install.call("env").returncode == 3
    assert install.call("down").returncode == 0  # nothing to do is no failure

    install.up()
    assert install.state.api_key() == key
    assert install.call("run", "-", given="print(1)").stdout == "1\n"


def test_after_the_supervisor_was_killed_nothing_stays_and_a_new_one_starts(install: Install) -> None:
    install.up()
    supervisor = install.status()["supervisor"]
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not any(line.startswith("process") for line in install.left()))
    assert install.call("status").returncode == 3
    install.up()
    assert install.call("down").returncode == 0
    assert install.left() == []


def test_in_the_foreground_a_first_job_is_shown_and_ctrl_c_ends_it(install: Install) -> None:
    log = install.folder / "output"
    with log.open("wb") as output:
        service = subprocess.Popen(
            install.command("up", "--hello", "--port", "0"), cwd=install.folder, env=install.env, stdout=output
        )
    wait_for(lambda: "Hello from Python" in log.read_text() or service.poll() is not None, 60)
    service.send_signal(signal.SIGINT)
    assert service.wait(60) == 0
    shown = log.read_text()
    assert "ready: http://127.0.0.1:" in shown
    assert "Hello from Python" in shown
    assert f"shown only now: {install.state.api_key()}" in shown
    assert install.left() == []


def test_a_second_ctrl_c_does_not_wait_for_jobs(install: Install) -> None:
    install.up("--grace", "100")
    job = subprocess.Popen(
        install.command("run", "-"),
        cwd=install.folder,
        env=install.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert job.stdin is not None
    job.stdin.write(SLEEPER.encode())
    job.stdin.close()
    try:
        time.sleep(3)  # until it runs
        supervisor = install.status()["supervisor"]
        os.kill(supervisor, signal.SIGINT)
        time.sleep(2)
        assert processes.begun(supervisor) is not None  # it waits for the job
        os.kill(supervisor, signal.SIGINT)
        wait_for(lambda: processes.begun(supervisor) is None, 15)
        assert install.left() == []  # not even the sandbox of the job
    finally:
        job.kill()
        job.wait()


def test_a_taken_port_is_refused_with_advice(install: Install) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words in ([], ["--detach"]):
            done = install.call("up", *words, "--port", port)
            assert done.returncode == 1
            assert "--port" in done.stdout
    assert install.left() == []


def test_a_database_that_is_not_there_ends_the_start(install: Install) -> None:
    done = install.call(
        "up", "--detach", "--port", "0", RETORT_DATABASE_URL="postgresql+psycopg://nobody@/x?host=/nonexistent"
    )
    assert done.returncode == 1
    assert "migrations failed" in done.stdout
    assert install.left() == []
