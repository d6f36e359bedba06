"""What a model is asked: the standing instructions, the task, what is there, what a program gets."""

import re
import tomllib

import pytest

from domain.limits import load_profiles
from tests.conftest import ROOT
from worker.model.extract import Problem
from worker.model.guides import PACKAGES
from worker.model.prompts import Given, conversation, system_prompt
from worker.model.refine import Round, plan
from worker.model.rules import RefineRules

RULES = RefineRules()
LIMITS = load_profiles()["standard"].defaults
IMAGES = ROOT / "sandbox-images"


def test_a_fresh_start_drops_the_history() -> None:
    stderr = b"ValueError: one"
    rounds = (
        Round(
            1, code="x", verdict="error", exit_code=1, stderr=stderr, stderr_bytes=len(stderr), limits=LIMITS
        ),
        Round(2, problem=Problem.PROSE, answer="hm"),
    )
    coming = plan(RULES, rounds)
    assert (coming.number, coming.fresh, coming.shown) == (3, True, ())
    (message,) = conversation(RULES, coming, language="python", task="Sum.", check={}, limits=LIMITS)
    assert "ValueError: one" in message.content
    assert "no fenced code block" in message.content
    assert "different approach" in message.content


def test_prompts_name_the_format_in_every_language() -> None:
    for language, tag in (("python", "python"), ("javascript", "javascript"), ("bash", "bash"), ("r", "r")):
        assert f"```{tag}" in system_prompt(language)
        assert "nothing else" in system_prompt(language)


def test_related_operations_are_one_program() -> None:
    assert "does all of them in one run" in system_prompt("python")


def test_prompts_say_what_is_there() -> None:
    assert "Python 3.12 program" in system_prompt("python@3.12", "extended")
    assert "polars" in system_prompt("python", "extended")
    for narrower in (("python", "standard"), ("python@3.12", "extended")):
        assert "pandas" in system_prompt(*narrower)
        assert "polars" not in system_prompt(*narrower)
    assert "tensorflow" in system_prompt("python@tensorflow", "extended")
    assert "Python program" in system_prompt("python@tensorflow", "extended")
    assert "ggplot2" in system_prompt("r", "extended")
    assert "ggplot2" not in system_prompt("r")


@pytest.mark.parametrize("image", sorted(path.parent.name for path in IMAGES.glob("*/image.toml")))
def test_the_packages_that_are_told_are_those_of_the_image(image: str) -> None:
    told = {word.strip().lower() for word in PACKAGES.get(image, "").split(",")}
    facts = tomllib.loads((IMAGES / image / "image.toml").read_text())
    wanted = IMAGES / image / "requirements.in"
    if wanted.exists() and image != "javascript":  # there it only brings node
        names = {re.split(r"[<>=~\[;]", line)[0].strip() for line in wanted.read_text().splitlines()}
        names = {name.removesuffix("-cpu").lower() for name in names if not name.startswith("#")}
        assert names - {""} <= told
    elif image == "python-3.12":
        assert PACKAGES[image] == PACKAGES[facts["like"]]
    elif (IMAGES / image / "Dockerfile").exists():
        text = (IMAGES / image / "Dockerfile").read_text()
        assert set(re.findall(r"r-cran-([\w.]+)", text)) <= told
        if image == "bash":
            (line,) = re.findall(r"recommends \\\n +(.+) \\\n", text)
            assert set(line.split()) == told


def test_prompts_say_what_the_program_gets() -> None:
    given = Given(True, (("data/räume.csv", 1234),), ("--all", "a b"), ("HOST",))
    (message,) = conversation(
        RULES, plan(RULES, ()), language="r", task="Sum.", check={}, limits=LIMITS, given=given
    )
    for words in ('"data/räume.csv", 1,234 bytes', '["--all", "a b"]', "HOST", "standard input"):
        assert words in message.content
    (bare,) = conversation(RULES, plan(RULES, ()), language="r", task="Sum.", check={}, limits=LIMITS)
    assert "working folder" not in bare.content


def test_tests_are_shown_to_the_model_and_expected_output_is_not() -> None:
    coming = plan(RULES, ())
    ask = {"language": "python", "task": "Sum.", "limits": LIMITS}
    (tested,) = conversation(RULES, coming, check={"tests": "assert f() == 1"}, **ask)  # type: ignore[arg-type]
    assert "assert f() == 1" in tested.content
    (compared,) = conversation(RULES, coming, check={"stdout": "4711"}, **ask)  # type: ignore[arg-type]
    assert "4711" not in compared.content
