"""A shell in which `retort` is called, and a terminal."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from retort import Config, Retort
from retort.cli.main import app
from tests.harness import ROOT
from tests.served import Served

ESCAPES = re.compile(r"\x1b")


@dataclass(frozen=True)
class Shell:
    """A folder in which `retort` is called, and the service that it finds."""

    folder: Path
    service: Served

    def retort(self, *words: str, given: str | bytes | None = None, **env: str) -> Result:
        """Call it here, without a terminal."""
        return CliRunner().invoke(app, list(words), input=given, env={**self.service.env, **env})

    def good(self, *words: str, given: str | bytes | None = None, code: int = 0) -> Result:
        """The same, if it ends as it should."""
        found = self.retort(*words, given=given)
        assert found.exit_code == code, (found.output, found.exception)
        assert not ESCAPES.search(found.output)
        return found

    def json(self, *words: str, code: int = 0) -> Any:
        """What it prints with `--json`, which must be all."""
        return json.loads(self.good(*words, "--json", code=code).stdout)

    def process(self, *words: str, **how: Any) -> subprocess.Popen[bytes]:
        """Start it as a process."""
        more: dict[str, str] = how.pop("env", {})
        env = {**os.environ, **self.service.env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}
        command = [sys.executable, "-P", "-m", "retort.cli.main", *words]
        return subprocess.Popen(command, cwd=self.folder, env={**env, "TERM": "xterm", "COLUMNS": "120"}, **how)

    def write(self, name: str, text: str) -> str:
        """A file; its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    @property
    def client(self) -> Retort:
        """A client of the same service."""
        return Retort(Config(self.service.url, self.service.key))


def at_terminal(shell: Shell, *words: str) -> str:
    """What a person sees who calls it at a terminal."""
    ours, theirs = pty.openpty()
    process = shell.process(*words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # it has ended
                break
    process.wait(60)
    os.close(ours)
    return seen.decode()
