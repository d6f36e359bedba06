"""The scripted model's choices: which script, which turn, which language, how long to wait."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort.scripted.dialects import Anthropic, BadRequest, OpenAI
from retort.scripted.limits import Limits, Window
from retort.scripted.script import Said, ScriptError, Scripts, load_scripts, parse_scripts, wanted_language

TASK = Said("user", "Please plot a SINE curve in Python")


@pytest.fixture(scope="module")
def scripts() -> Scripts:
    """Those that come with us."""
    return load_scripts()


def test_a_task_is_wrong_first_and_right_after_its_error(scripts: Scripts) -> None:
    script = scripts.choose([TASK])
    first = script.turn([TASK]).words("python")
    assert "np.linspace" in first
    assert "import numpy" not in first
    wrong = Said("assistant", first)
    again = script.turn([TASK, wrong, Said("user", "NameError: name 'np' is not defined")])
    assert "import numpy as np" in again.words("python")
    # Without the error it learns nothing; from a fresh start that shows it, it does.
    assert script.turn([TASK, wrong, Said("user", "try again")]).words("python") == first
    fresh = script.turn([Said("user", f"{TASK.text}. An attempt ended with NameError.")])
    assert "import numpy as np" in fresh.words("python")


def test_marks_come_before_words(scripts: Scripts) -> None:
    assert scripts.choose([Said("user", "plot sine [scripted:refusal]")]).name == "refusal"
    assert scripts.choose([Said("user", "nothing it knows")]).name == "unknown"


def test_turns_follow_the_conversation(scripts: Scripts) -> None:
    said = [Said("user", "[scripted:always-another-error]")]
    words = []
    for _ in range(5):
        words.append(scripts.choose(said).turn(said).words("python"))
        said += [Said("assistant", words[-1]), Said("user", "it failed")]
    assert len(set(words)) == 4
    assert words[4] == words[3]


def test_every_language_has_a_right_and_a_wrong_program(scripts: Scripts) -> None:
    for script in scripts.all:
        if script.name in ("right", "wrong-then-right", "never-right"):
            for turn in script.turns:
                assert set(turn.code) == {"python", "javascript", "bash", "r", "rust"}
                assert all(f"```{name}\n" in turn.words(name) for name in turn.code)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Sort it in JavaScript", "javascript"),
        ("with node", "javascript"),
        ("A Bash script", "bash"),
        ("use R for this", "r"),
        ("or for this", "python"),
        ("a trusty thing", "python"),
        ("in Rust, not Python", "rust"),
        ("", "python"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert wanted_language(text) == language


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[scripts]]\nname = 'a'", "turns"),
        ("[[scripts]]\nname = 'A'\n[[scripts.turns]]", "small letters"),
        ("[[scripts]]\nname = 'a'\n[[scripts.turns]]\nsay = 'x'", "unknown say"),
        ("[[scripts]]\nname = 'a'\n[[scripts.turns]]\nmode = 'x'", "mode must be one of"),
        ("[[scripts]]\nname = 'a'\n[[scripts.turns]]\nfinish = 'x'", "finish must be"),
    ],
)
def test_wrong_scripts(text: str, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        parse_scripts(text, "file")


@pytest.mark.parametrize("dialect", [OpenAI(), Anthropic()])
@pytest.mark.parametrize(
    "change",
    [
        {"model": None}, {"messages": []}, {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]}, {"temperature": 9}, {"max_tokens": 0},
        {"stream": "yes"}, {"colour": 1},
    ],
)  # fmt: skip
def test_requests_are_read_strictly(dialect: OpenAI | Anthropic, change: dict[str, object]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    dialect.read(body)
    with pytest.raises(BadRequest):
        dialect.read({**body, **change})


def test_each_dialects_own_rules() -> None:
    system_first = {
        "model": "m",
        "max_tokens": 5,
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}],
    }
    assert OpenAI().read(system_first).system == "s"
    with pytest.raises(BadRequest, match="role"):
        Anthropic().read(system_first)
    with pytest.raises(BadRequest, match="max_tokens"):
        Anthropic().read({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    with pytest.raises(BadRequest, match="system: unknown"):
        OpenAI().read({"model": "m", "messages": [{"role": "user", "content": "x"}], "system": "s"})


@given(st.lists(st.integers(1, 60), min_size=1, max_size=50), st.integers(1, 10), st.integers(60, 200))
def test_a_window_never_holds_more_than_its_limits(sizes: list[int], rpm: int, tpm: int) -> None:
    window = Window(Limits(rpm, tpm, minute_s=3600))
    taken = [size for size in sizes if window.take(size) == 0]
    assert len(taken) <= rpm
    assert sum(taken) <= tpm
    assert len(taken) == rpm or len(taken) == len(sizes) or sum(taken) + max(sizes) > tpm


def test_a_window_opens_again() -> None:
    window = Window(Limits(rpm=1, minute_s=0.05))
    assert window.take(1) == 0
    wait = window.take(1)
    assert 0 < wait <= 0.05
    time.sleep(wait)
    assert window.take(1) == 0
