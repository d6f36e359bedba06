# ruff: noqa: E501 (programs are as long as they are)
"""Every language in real cells: the same small programs, and images."""

import json
import signal
from typing import Any

import docker
import pytest

from domain.files import RESULTS
from domain.languages import load_languages
from domain.states import Verdict
from tests.integration.cells import Cells, Run, make
from tests.integration.programs_by_language import LANGUAGES
from tests.integration.sandboxes import STANDARD
from tests.unit.test_cell_files import Kept
from worker.sandbox import images, posture
from worker.sandbox.running import Input, Program

NAMES = list(LANGUAGES)

#: Those whose interpreter waits for a program.
AHEAD = ["javascript", "bash", "r"]


# The same for all


@pytest.mark.parametrize("language", NAMES)
def test_files_go_in_and_come_out(run: Run, language: str) -> None:
    """What the program did not leave is none: its own file, what the compiler made of it, its input."""
    for content in (b"a", b"A"):  # the second time in a cell that was reset
        sink = Kept()
        given = [Input("in/a", lambda content=content: [content])]  # type: ignore[misc]
        decision, ending = run(language, "copy", files=given, collect=STANDARD.files, sink=sink)
        assert (decision.verdict, ending.stderr, ending.lost) == (Verdict.OK, b"", False)
        assert (sink.files, ending.left_out) == ({"out/b": content + b"b"}, {})
    sink = Kept()
    _, ending = run(language, "hello", collect=STANDARD.files, sink=sink)
    assert (ending.stdout, sink.files, ending.left_out) == (b"hello\n", {}, {})


@pytest.mark.parametrize("language", NAMES)
@pytest.mark.parametrize(
    ("name", "parts", "stdout"),
    [
        ("hello", {}, "hello\n"),
        ("stdin", {"stdin": "ab\nö\n".encode()}, "AB\nÖ\n"),
        ("stdin", {}, ""),
        ("args", {"args": ("x", "two words", "é", "-n")}, "x\ntwo words\né\n-n\n"),
        ("env", {"env": {"A": 'it\'s $A "é"\n=1'}}, 'it\'s $A "é"\n=1\n'),
        ("utf8", {}, "äß→𝄞\n"),
        ("file", {}, "kept\n"),
    ],
)
def test_ends_well(run: Run, language: str, name: str, parts: dict[str, Any], stdout: str) -> None:
    decision, ending = run(language, name, **parts)
    if (language, name, parts) == ("r", "stdin", {}):
        stdout = "\n"  # R's cat of nothing, with a line end as separator
    assert (decision.verdict, ending.stdout.decode(), ending.stderr) == (Verdict.OK, stdout, b"")


@pytest.mark.parametrize("language", NAMES)
def test_large_output(run: Run, language: str) -> None:
    decision, ending = run(language, "large", limits={"output_bytes": 1 << 22})
    assert (decision.verdict, ending.stdout) == (Verdict.OK, b"0123456789" * 200_000)


@pytest.mark.parametrize("language", NAMES)
def test_exit_code(run: Run, language: str) -> None:
    decision, _ = run(language, "exit")
    assert (decision.verdict, decision.exit_code) == (Verdict.ERROR, 7)


@pytest.mark.parametrize("language", NAMES)
def test_signal(run: Run, language: str) -> None:
    decision, _ = run(language, "signal")
    assert (decision.verdict, decision.signal) == (Verdict.SIGNALLED, signal.SIGTERM)


@pytest.mark.parametrize("language", NAMES)
def test_uncaught_error(run: Run, language: str) -> None:
    decision, ending = run(language, "uncaught")
    assert decision.verdict is Verdict.ERROR
    assert b"oh no" in ending.stderr
    for ours in (b"retort", b"wait.", b"runner"):
        assert ours not in ending.stderr


@pytest.mark.parametrize("language", NAMES)
def test_endless(run: Run, language: str) -> None:
    decision, _ = run(language, "endless", limits={"timeout_s": 1})
    assert decision.verdict is Verdict.TIMEOUT


@pytest.mark.parametrize("language", NAMES)
def test_memory_without_end(run: Run, language: str) -> None:
    # A compiler needs more itself.
    decision, ending = run(
        language, "memory", limits={"memory_mb": 256 if LANGUAGES[language].compiled else 128}
    )
    assert decision.verdict is Verdict.OUT_OF_MEMORY, ending.stderr[-500:]
    assert decision.reason is None


@pytest.mark.parametrize("language", NAMES)
def test_nothing_is_left_for_the_next_job(run: Run, language: str) -> None:
    decision, _ = run(language, "leave")
    assert decision.verdict is Verdict.OK
    _, ending = run(language, "look")
    assert ending.stdout.split() == [b"0", b"0"], ending.stderr


@pytest.mark.parametrize("language", NAMES)
def test_posture_inside(cells: Cells, language: str) -> None:
    """The guest is what it must be, in every image and however it was started."""
    code = LANGUAGES[language].programs["outer"]

    def wrapped(probe: str) -> Program:
        return make(language, code, env={"PROBE": probe})

    assert posture.differences(list(posture.inside(cells(LANGUAGES[language].image), wrapped))) is None


@pytest.mark.parametrize("language", NAMES)
def test_root_is_read_only_and_no_setuid(run: Run, language: str) -> None:
    probe = (
        "import os, stat\n"
        "setuid, writable = [], []\n"
        "for folder, folders, names in os.walk('/'):\n"
        "    if folder == '/': folders[:] = [n for n in folders if n not in ('proc', 'sys')]\n"
        "    if os.access(folder, os.W_OK): writable.append(folder)\n"
        "    for name in names:\n"
        "        mode = os.lstat(folder + '/' + name).st_mode\n"
        "        if mode & 0o6000 and stat.S_ISREG(mode): setuid.append(name)\n"
        "print(setuid, sorted(writable))"
    )
    _, ending = run(language, "outer", env={"PROBE": probe})
    writable = ending.stdout.decode().partition("] ")[2]
    assert ending.stdout.startswith(b"[] "), ending
    assert [place for place in writable.split("'")[1::2] if "Rtmp" not in place] == [
        "/dev/mqueue",
        "/dev/shm",
        "/tmp",
        "/work",
    ]


# Interpreters that are up before their program comes


@pytest.mark.parametrize("language", AHEAD)
@pytest.mark.parametrize("parts", [{}, {"args": ("a",), "env": {"A": "1"}, "stdin": b"x"}])
def test_an_interpreter_waits(run: Run, language: str, parts: dict[str, Any]) -> None:
    """It is used, in a new cell and after a reset; or all this would be for nothing."""
    for _ in range(2):
        _, ending = run(language, "hello", **parts)
        assert (ending.stdout, ending.level) == (b"hello\n", 1)


@pytest.mark.parametrize(
    ("language", "name"), [("javascript", "NODE_PATH"), ("bash", "BASH_COMPAT"), ("r", "R_LIBS")]
)
def test_variables_of_the_interpreter_itself(run: Run, language: str, name: str) -> None:
    """Who sets one gets an interpreter that saw it at its start."""
    decision, ending = run(language, "hello", env={name: ""})
    assert (decision.verdict, ending.stdout, ending.level) == (Verdict.OK, b"hello\n", 0)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        (
            "javascript",
            "const fs = require('fs');\n"
            "console.log(process.argv, process.execArgv, process.argv0, require.main === module, __filename,\n"
            "  Object.keys(require.cache), module.children.length, module.paths, process.cwd(),\n"
            "  fs.readdirSync('/work'), Object.keys(process.env).sort(), Object.keys(globalThis),\n"
            "  process.listenerCount('exit'), process.exitCode, new Error('x').stack);\n"
            "console.error(typeof process.stdin.read, process.stdout.isTTY, process.stdout.fd)",
        ),
        (
            "bash",
            "echo $0 $# $SHLVL $LINENO $BASH_SOURCE $_ $- $BASHOPTS; compgen -v | grep -v BASH_ARG; declare -F\n"
            "nosuch; echo /proc/self/fd/*; env | sort; caller; trap; set -o; shopt; umask",
        ),
        (
            "r",
            "print(commandArgs()); print(search()); print(sort(loadedNamespaces())); print(ls(all.names = TRUE))\n"
            "print(interactive()); print(getOption('repos')); print(options()[c('warn', 'encoding')])\n"
            "print(names(getLoadedDLLs())); print(list.files('/proc/self/fd')); print(sys.calls())\n"
            "print(Sys.getenv()[!names(Sys.getenv()) %in% 'R_SESSION_TMPDIR']); print(formals(commandArgs))\n"
            "print(RNGkind()); print(nrow(showConnections())); warning('told')",
        ),
    ],
)
def test_a_program_cannot_tell(run: Run, language: str, code: str) -> None:
    """What a program sees of an interpreter that waited for it is what it sees of one that did not."""
    # A variable of the locale is for an interpreter that starts with the program.
    _, waited = run(language, code, env={"LB_X": "1"})
    _, started = run(language, code, env={"LC_X": "1"})
    assert (waited.level, started.level) == (1, 0)
    assert sorted(waited.stdout.replace(b"LB_X", b"LC_X").split()) == sorted(started.stdout.split())
    assert waited.stderr == started.stderr


# Images


def test_csv_of_100_000_rows_and_a_plot(run: Run) -> None:
    code = """
import io, random
import matplotlib.pyplot as plt
import pandas as pd
random.seed(1)
text = 'group,value\\n' + ''.join(f'{"abc"[i % 3]},{i}\\n' for i in range(100_000))
open('data.csv', 'w').write(text)
frame = pd.read_csv('data.csv')
means = frame.groupby('group').value.mean()
means.plot.bar(); plt.savefig('means.png')
print(len(frame), means['a'], open('means.png', 'rb').read(4))
"""
    for image in ("python", "python-3.12", "python-extended"):
        sink = Kept()
        decision, ending = run("python", code, image=image, collect=STANDARD.files, sink=sink)
        assert decision.verdict is Verdict.OK, ending.stderr
        assert ending.stdout == b"100000 49999.5 b'\\x89PNG'\n"
        assert set(sink.files) == {"data.csv", "means.png", RESULTS}
        assert json.loads(sink.files[RESULTS])[0]["artifact"] == "means.png"


def test_extended_images(run: Run) -> None:
    _, ending = run(
        "python",
        "import importlib.util as i, networkx\n"
        "for name in 'statsmodels numba polars plotly bs4'.split(): assert i.find_spec(name)\n"
        "print(networkx.path_graph(3))",
        image="python-extended",
    )
    assert ending.stdout == b"Graph with 3 nodes and 2 edges\n", ending.stderr
    code = "suppressMessages(library(dplyr)); cat(nrow(filter(mtcars, mpg > 30)), requireNamespace('ggplot2'), '\\n')"
    _, ending = run("r", code, image="r-extended")
    assert ending.stdout.endswith(b"4 TRUE \n"), ending.stderr


def test_every_image_tells_of_itself(engine: docker.DockerClient) -> None:
    variants = [(name, each) for name, language in load_languages().items() for each in language.variants]
    wanted = set(images.image_names())
    for name, variant in variants:
        if variant.image not in wanted:
            continue
        facts = images.facts_of(engine.images.get(images.expected_tag(variant.image)).attrs)
        assert facts["language"] == name
        assert any(facts["version"].startswith(f"{version}.") for version in variant.versions), facts["version"]
        assert "Debian" in facts["system"]["name"]
        assert "python3-minimal" in facts["system"]["packages"]
        if name in ("python", "r"):
            assert len(facts["packages"]) > 10
