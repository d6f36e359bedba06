"""The examples of the documents are run, against the running service, and give what they say.

Blocks of a document share a folder, a shell and the names of a Python program. What is run:

    ```sh          commands that must succeed
    ```console     commands after `$ ` (`> ` goes on), each with the output that must follow; `...` is anything
    ```python      a program, or a session with `>>> `
    ```http        a request with its body, which must be answered with a success
"""

import doctest
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from retort.state import StateFolder
from tests.conftest import Services
from tests.harness import ROOT
from tests.served import Served, served

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = ("sh", "console", "python", "http")
#: Differences that do not matter: what differs each time, and how columns are apart.
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

#: Blocks that cannot run here, by document and first line, and why not.
NOT_RUN: Mapping[tuple[str, str], str] = {
    ("README.md", "make run"): "starts everything from nothing: tests/e2e/test_up.py starts the same",
    ("docs/tutorial.md", "make run DETACH=1"): "as in README.md",
    ("docs/models.md", "export RETORT_GATEWAY_URL"): "needs a model gateway and its key",
    ("docs/models.md", "retort scripted-model &"): "starts everything from nothing",
    (
        "docs/bench.md",
        "retort bench",
    ): "takes minutes, and models: tests/integration/test_bench.py does as much",
    ("docs/model-calls.md", "make crowd"): "takes minutes: tests/integration/test_crowd.py does it in small",
    ("docs/faults.md", "make faults"): "takes hours: tests/faults/test_faults.py does some of it",
    ("docs/operations.md", "make compose"): "tests/e2e/test_compose.py does it",
    ("docs/operations.md", "COMPOSE_PROFILES=models"): "is no command, but lines of a file",
    ("docs/operations.md", "mkdir -p .retort/compose"): "tests/e2e/test_compose.py does it",
    ("docs/operations.md", "install -d -m 700 /etc/retort/secrets"): "changes the machine's systemd",
}
#: Files that a document's reader would have.
GIVEN: Mapping[str, Mapping[str, bytes]] = {
    "docs/files.md": {"data.parquet": b"PAR1"},
    "docs/tasks.md": {"primes.txt": b"9592 99991\n"},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: str
    line: int
    kind: str
    text: str

    @property
    def where(self) -> str:
        """What a person looks for."""
        return f"{self.document}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        fits = (why for (document, first), why in NOT_RUN.items() if self._begins(document, first))
        return next(fits, None)

    def _begins(self, document: str, first: str) -> bool:
        return document == self.document and self.text.startswith(first)


def blocks(document: str) -> list[Block]:
    """Every block of a document of a kind that is run."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(document, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in BLOCK.finditer(text)
        if found[1] in RUN
    ]


#: What the scripted model says to their tasks.
SCRIPTS = ROOT / "tests" / "documents.toml"
DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
WITH_EXAMPLES = [name for name in DOCUMENTS if any(block.reason is None for block in blocks(name))]


@pytest.fixture(scope="module")
def service(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Everything, started once."""
    with served(services, engine, tmp_path_factory.mktemp("documents"), SCRIPTS) as found:
        yield found


class Shell:
    """One bash, for all commands of a document."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[str, int]:
        """What a command printed, standard error included, and its exit code."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        mark = uuid.uuid4().hex
        self._bash.stdin.write(f"{command}\nprintf '%s %s\\n' {mark} $?\n")
        self._bash.stdin.flush()
        printed = ""
        for line in self._bash.stdout:
            before, found, code = line.partition(mark)
            printed += before
            if found:
                return printed, int(code)
        raise AssertionError(f"the shell ended: {printed}")

    def close(self) -> None:
        """End it."""
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.wait(30)


@dataclass(frozen=True)
class Reader:
    """Somebody who follows a document."""

    shell: Shell
    names: dict[str, Any]
    service: Served

    def follow(self, block: Block) -> None:
        """Do what a block says, and see that it is as it says."""
        match block.kind:
            case "sh":
                printed, code = self.shell.run(block.text)
                assert code == 0, f"{block.where}: {printed}"
            case "console":
                for command, wanted in commands(block.text):
                    printed, code = self.shell.run(command)
                    assert code == 0, f"{block.where}: {command}: {printed}"
                    same = doctest.OutputChecker().check_output(wanted, printed, LENIENT)
                    assert same, f"{block.where}: {command}\n--- wanted\n{wanted}--- got\n{printed}"
            case "python":
                self._python(block)
            case "http":
                self._http(block)

    def _python(self, block: Block) -> None:
        if not block.text.startswith(">>> "):
            exec(compile(block.text, block.where, "exec"), self.names)  # noqa: S102  -- our own documents
            return
        test = doctest.DocTestParser().get_doctest(
            block.text, self.names, block.where, block.document, block.line
        )
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=LENIENT)
        result = runner.run(test, out=said.append, clear_globs=False)
        self.names.update(test.globs)
        assert result.attempted
        assert not result.failed, "".join(said)

    def _http(self, block: Block) -> None:
        head, _, body = block.text.partition("\n\n")
        first, *rest = head.splitlines()
        method, path = first.split()
        headers = {"Authorization": f"Bearer {self.service.key}"} | dict(line.split(": ", 1) for line in rest)
        answer = httpx.request(
            method, self.service.url + path, headers=headers, content=body, timeout=90, trust_env=False
        )
        assert answer.is_success, f"{block.where}: {answer.text}"


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a session, each with the output that follows it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        more = next((n for n, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines))
        command = "\n".join([lines[0], *(line[2:] for line in lines[1:more])])
        yield command, "".join(f"{line}\n" for line in lines[more:])


@pytest.fixture
def reader(
    request: pytest.FixtureRequest, service: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """Somebody in the folder of a service that was started there, with `retort` on the path."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    program = programs / "retort"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m retort.cli.main "$@"\n')
    program.chmod(0o755)
    for name, content in GIVEN.get(request.param, {}).items():
        (tmp_path / name).write_bytes(content)
    state = StateFolder(tmp_path / ".retort")
    monkeypatch.chdir(tmp_path)
    for name, value in service.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RETORT_STATE_DIR", str(state.root))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{programs}:{os.environ['PATH']}", "PS2": ""}
    with state.hold():  # as `retort up` does, so that `retort env` tells of it
        state.write_status({"url": service.url})
        state.keep_api_key(service.key)
        shell = Shell(tmp_path, env)
        try:
            yield Reader(shell, {"__name__": "__main__"}, service)
        finally:
            shell.close()


@pytest.mark.parametrize(
    ("reader", "document"), [(name, name) for name in WITH_EXAMPLES], indirect=["reader"], ids=WITH_EXAMPLES
)
def test_the_examples_of_a_document_are_true(reader: Reader, document: str) -> None:
    for block in blocks(document):
        if block.reason is None:
            reader.follow(block)


def test_every_reason_belongs_to_a_block() -> None:
    every = [block for name in DOCUMENTS for block in blocks(name)]
    unused = [key for key in NOT_RUN if not any(block._begins(*key) for block in every)]
    assert unused == []
    assert len([block for block in every if block.reason is None]) > 2 * len(NOT_RUN)


def test_commands_of_a_session_are_told_from_their_output() -> None:
    text = "$ cat <<END\n> a\n> END\na\n$ true\n"
    assert list(commands(text)) == [("cat <<END\na\nEND", "a\n"), ("true", "")]


@pytest.mark.parametrize("reader", ["none"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("sh", "false\n"),
        ("console", "$ echo 1 2 3\n1 ... 4\n"),
        ("console", "$ echo 1; false\n1\n"),
        ("python", ">>> 1 + 1\n3\n"),
        ("python", "assert False\n"),
        ("http", "GET /v1/none\n\n"),
    ],
)
def test_an_example_that_is_not_true_is_found(reader: Reader, kind: str, text: str) -> None:
    with pytest.raises(AssertionError):
        reader.follow(Block("none", 1, kind, text))
