"""The command line without a service: exit codes, lines about jobs, what is refused before anything is sent."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from domain.states import State, Verdict
from retort.cli import exits
from retort.cli.main import app
from retort.cli.telling import describe, summary
from retort.cli.terminal import Screen
from retort.client import Job
from retort.client.results import AttemptSummary


def job(**more: Any) -> Job:
    """A finished job as the API tells it."""
    return Job.of({"id": "j", "state": "finished", "verdict": "ok", "exit_code": 0, "usage": {}} | more)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (job(), 0),
        (job(verdict="error", exit_code=7), 7),
        (job(verdict="error", exit_code=0), 1),
        (job(verdict="signalled", exit_code=None, signal=11), 139),
        (job(verdict="timeout", exit_code=None, signal=9), 124),
        (job(verdict="out_of_memory", exit_code=1), 137),
        (job(verdict="of_tomorrow"), 70),
        (job(state="cancelled", verdict=None), 130),
        (job(state="broken", verdict=None), 70),
    ],
)
def test_exit_code_tells_how_the_job_ended(ended: Job, code: int) -> None:
    assert exits.of_job(ended) == code


def test_every_verdict_and_final_state_has_an_exit_code_of_its_own() -> None:
    codes = {verdict: exits.of_job(job(verdict=verdict.value, exit_code=3, signal=6)) for verdict in Verdict}
    assert len(set(codes.values())) == len(Verdict)
    assert exits.OUR_FAILURE not in codes.values()
    assert exits.of_job(job(state=State.BROKEN.value)) == exits.OUR_FAILURE


@pytest.mark.parametrize(
    ("status", "code"), [(401, 77), (403, 77), (422, 64), (413, 64), (404, 64), (429, 69), (503, 69), (500, 69)]
)
def test_exit_code_tells_why_a_request_was_refused(status: int, code: int) -> None:
    assert exits.of_refusal(status) == code


def test_summary_says_what_was_used() -> None:
    usage = {"wall_s": 0.0124, "cpu_s": 1.5, "peak_memory_bytes": 21 * 2**20, "sandbox_start": "warm"}
    line = summary(job(verdict="out_of_memory", exit_code=1, usage=usage))
    assert line == "out of memory (exit code 1), wall 12 ms, CPU 1.50 s, memory 21 MB, warm sandbox"
    assert summary(job(usage={"compile_s": 0.116, "wall_s": 0.002})) == "ok, compiler 116 ms, wall 2 ms"


def test_what_a_program_or_a_model_chose_does_nothing_to_the_terminal() -> None:
    assert summary(job(reason="\x1b[2Jgone\n")) == "ok, \\x1b[2Jgone\\x0a"
    attempt = AttemptSummary(number=1, verdict="error", note="\x07\u202e")
    assert describe(attempt) == "attempt 1: error, \\x07\\u202e"


@pytest.mark.parametrize("cut", range(1, 12))
@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain \u00e9\t\r\n", "plain \u00e9\t\r\n"),
        ("\x1b[1;38;5;200mred\x1b[m", "\x1b[1;38;5;200mred\x1b[m"),
        ("a\x1b[2J\x1b[10;10Hb\x1b[?1049hc", "abc"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\x9b2Jd", "abc2Jd"),
        ("a\x1bPq#0\x1b\\b\x1bcc\x07\x00\x0e\u202ed", "abcd"),
    ],
)
def test_at_a_terminal_programs_show_text_and_colours_and_do_nothing_else(
    written: str, shown: str, cut: int
) -> None:
    data, screen = written.encode(), Screen()
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    assert "".join(screen.shown(piece) for piece in pieces) == shown


def test_a_sequence_that_never_ends_is_not_waited_for() -> None:
    screen = Screen()
    screen.shown(b"\x1b]0;" + b"x" * 5000)
    assert screen.shown(b"y\n").endswith("y\n")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No service, no configuration; a folder with a program in it."""
    for name in ("RETORT_API_KEY", "RETORT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETORT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RETORT_CLIENT_MAX_RETRIES", "0")
    monkeypatch.setenv("RETORT_STATE_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("print(1)")
    (tmp_path / "latin.py").write_bytes(b"print('\xe9')")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "none.py"], exits.NO_INPUT, "none.py: No such file"),
        (["run", "latin.py"], 2, "not UTF-8"),
        (["run", "-", "--stdin", "-"], 2, "cannot both come"),
        (["run", "a.py", "--label", "x"], 2, "not NAME=VALUE"),
        (["ask", "x", "--check", "a.py", "--expect", "a.py"], 2, "not both"),
        (["logs", "x", "-f", "--attempt", "1"], 2, "not both"),
        (["keys", "create", "x", "--expires", "soon"], 2, "not a time"),
        (["run", "a.py"], exits.UNREACHABLE, "http://127.0.0.1:9 does not answer"),
        (["jobs", "--json"], exits.UNREACHABLE, "Start one with `retort up`"),
        (["savings"], exits.UNREACHABLE, "give the prices with --price"),
    ],
)
def test_what_cannot_be_done_ends_with_a_sentence(
    nowhere: Path, words: list[str], code: int, said: str
) -> None:
    found = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert (found.exit_code, said in found.stderr) == (code, True), found.output
    assert found.stdout == ""


def test_a_configuration_that_cannot_be_used_has_a_code_of_its_own(nowhere: Path) -> None:
    found = CliRunner().invoke(app, ["jobs"], env={"RETORT_CONFIG": "none.toml"})
    assert found.exit_code == exits.CONFIGURATION


def test_shells_can_complete_commands_and_options() -> None:
    def completed(words: str, number: int) -> set[str]:
        env = {"_RETORT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        return set(CliRunner().invoke(app, [], env=env, prog_name="retort").stdout.split())

    assert {"show", "stats", "status"} <= completed("retort s", 1)
    assert "--follow" in completed("retort logs --", 2)
    script = CliRunner().invoke(app, [], env={"_RETORT_COMPLETE": "source_bash"}, prog_name="retort").stdout
    assert "complete -o default -F" in script
