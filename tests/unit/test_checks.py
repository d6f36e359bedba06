"""How results are judged, without running anything."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.limits import Limits
from domain.tasks import UNUSABLE, load_task_rules
from worker import checks
from worker.checks.literals import LITERALS

TOKEN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("verdict", "stdout", "expected"),
    [
        ("ok", f"out\n{TOKEN}:passed\n", ("ok", True, None)),
        ("ok", "out\n", ("check_failed", False, "before the tests")),
        ("ok", f"{TOKEN}:passed", ("check_failed", False, "before the tests")),
        ("error", f"{TOKEN}:failed\n", ("check_failed", False, "failed")),
        ("error", f"{TOKEN}:unusable\n", ("check_failed", False, UNUSABLE)),
        ("error", "Traceback", ("error", None, None)),
        ("error", f"{TOKEN}:passed\n", ("error", True, None)),
        ("timeout", f"{TOKEN}:passed\n", ("timeout", None, None)),
        ("out_of_memory", "", ("out_of_memory", None, None)),
    ],
)
def test_by_tests(verdict: str, stdout: str, expected: tuple[str, bool | None, str | None]) -> None:
    judged = checks.judge({"tests": "x"}, verdict, stdout.encode(), TOKEN)
    assert (judged.verdict, judged.passed) == expected[:2]
    assert (judged.note is None) == (expected[2] is None)
    assert expected[2] is None or expected[2] in str(judged.note)
    assert judged.cut == len(stdout) - len(judged.stdout)


@pytest.mark.parametrize(
    ("expected", "found", "difference"),
    [
        ("1\n2\n", "1\n2", None),
        ("1", "1  \r\n\n\n", None),
        ("", "\n", None),
        ("1\n2", "1\n3", "line 2 of the output is '3', expected is '2'"),
        ("1\n2", "1", "the output ends before line 2, expected there is '2'"),
        ("1", "1\n2", "line 2 of the output is '2', expected is the end"),
        (" 1", "1", "line 1 of the output is '1', expected is ' 1'"),
        ("a\n\nb", "a\nb", "line 2 of the output is 'b', expected is ''"),
    ],
)
def test_by_output(expected: str, found: str, difference: str | None) -> None:
    assert checks.first_difference(expected, found) == difference
    judged = checks.judge({"stdout": expected}, "ok", found.encode(), None)
    assert judged.passed is (difference is None)
    assert judged.verdict == ("ok" if difference is None else "check_failed")


def test_a_program_that_failed_is_not_compared() -> None:
    assert checks.judge({"stdout": "1"}, "error", b"1", None).passed is None


def test_no_check() -> None:
    assert checks.harness("python", "x", {}) == checks.Harnessed("x")
    assert checks.judge({}, "ok", b"", None).passed is None


def test_a_token_is_new_each_time_and_what_programs_say_is_no_slot() -> None:
    one, other = (checks.harness("python", "'@TESTS@@TOKEN@'", {"tests": "'@PROGRAM@'"}) for _ in range(2))
    assert one.token != other.token
    assert one.code.count("'@TESTS@@TOKEN@'") == 1
    assert one.code.count(str(one.token)) == 1


def test_languages_that_are_offered_have_a_harness() -> None:
    assert set(load_task_rules().tested_languages) <= checks.tested_languages()
    for language in load_task_rules().tested_languages:
        assert LITERALS[language]("xyz") in checks.harness(language, "xyz", {"tests": "y"}).code


@given(st.text())
def test_literals_of_python_are_exact(text: str) -> None:
    assert eval(LITERALS["python"](text)) == text  # noqa: S307


def test_limits_are_in_the_key_of_a_result() -> None:
    from domain.caching import execution_key
    from domain.ids import new_id

    usual = {
        "caller": new_id(), "code": "x", "language": "python", "file": "main.py", "stdin": b"", "args": (),
        "env": {}, "profile": "standard", "limits": Limits(1, 64, 1.0, 1024), "image_digest": "sha256:a",
        "check": {},
    }  # fmt: skip
    other = {
        "caller": new_id(), "code": "y", "language": "r", "file": "main.R", "stdin": b"x", "args": ("a",),
        "env": {"A": "1"}, "profile": "extended", "limits": Limits(2, 64, 1.0, 1024),
        "image_digest": "sha256:b", "check": {"stdout": "1"}, "files": {"a": "00"},
    }  # fmt: skip
    keys = {execution_key(**{**usual, name: value}) for name, value in other.items()}  # type: ignore[arg-type]
    assert len(keys | {execution_key(**usual)}) == len(other) + 1  # type: ignore[arg-type]
    assert execution_key(**usual) == execution_key(**usual)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("program", "tests", "verdict", "passed"),
    [
        ("add() { echo $(($1 + $2)); }\necho hi", '[ "$(add 1 2)" = 3 ]', "ok", True),
        ("add() { echo $(($1 - $2)); }", '[ "$(add 1 2)" = 3 ]\necho after', "check_failed", False),
        ("exit 0", "false", "check_failed", False),
        ("exit 3", "true", "error", None),
        ("f() {", "true", "error", None),
        ("echo 1", "if then", "check_failed", False),
        ("x='a\"$b'\n", '[ "$x" = \'a"$b\' ]', "ok", True),
    ],
)
def test_the_harness_of_bash(
    tmp_path: Path, program: str, tests: str, verdict: str, passed: bool | None
) -> None:
    check = {"tests": tests}
    harnessed = checks.harness("bash", program, check)
    file = tmp_path / "main.sh"
    file.write_text(harnessed.code)
    ran = subprocess.run(["bash", str(file)], capture_output=True, timeout=60, check=False)
    judged = checks.judge(check, "ok" if ran.returncode == 0 else "error", ran.stdout, harnessed.token)
    assert (judged.verdict, judged.passed) == (verdict, passed)
    assert str(harnessed.token).encode() not in judged.stdout
    assert file.read_text() == program  # the sentinel is in no file
