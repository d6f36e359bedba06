"""What a scripted model says: which script a conversation plays, and which turn of it is next.

The conversation alone decides, so one server can play with many at the same time. Only `fails` are counted, per
conversation: the first requests of it fail in the ways that the list names.

>>> script = Script("demo", match="sine", turns=(Turn(text="wrong"), Turn(text="right", when="NameError")))
>>> asked = [Said("user", "Plot a sine"), Said("assistant", "wrong"), Said("user", "NameError: x")]
>>> script.turn(asked).text
'right'
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any


class ScriptError(ValueError):
    """A file of scripts is not as it must be; says where."""


class Mode(StrEnum):
    """How an answer arrives."""

    ANSWER = "answer"  # as the dialect says
    HANG = "hang"  # never
    KEEPALIVE = "keepalive"  # blank lines or comments first, then the answer
    DRIP = "drip"  # a byte a second
    ENDLESS = "endless"  # for ever, as fast as it is read
    HUGE = "huge"  # 50 MB
    HTML = "html"  # a page
    MALFORMED = "malformed"  # broken JSON
    WRONG_SCHEMA = "wrong_schema"  # JSON, and nothing that the dialect knows
    EMPTY = "empty"  # a body of no bytes
    DISCONNECT = "disconnect"  # the connection closes before any answer
    CUT = "cut"  # the connection closes in the middle
    NO_FINISH = "no_finish"  # ends without saying why
    LATE_ERROR = "late_error"  # status 200, and an error in the middle


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a conversation; system prompts are not among them."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing to say or do. `when`: only if the last question has these words, in any case.

    `code` by language, or one text for all of them. Times in seconds.
    """

    text: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    when: str = ""
    finish: str = "stop"  # stop, length, refusal
    mode: Mode = Mode.ANSWER
    status: int = 200
    type: str = ""  # of an error
    error_code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0
    gap_s: float = 0  # between pieces of a stream
    usage: bool = True
    fails: tuple["Turn", ...] = ()

    def words(self, language: str) -> str:
        """What is said, to someone who wants this language."""
        code = self.code.get(language) or self.code.get("")
        if code is None:
            if self.code:
                return f"{self.text}\n\n(This script has no program in {language}.)"
            return self.text
        return f"{self.text}\n\n```{language}\n{code.strip()}\n```\n".lstrip()


@dataclass(frozen=True, slots=True)
class Script:
    """Turns for the conversations whose first question has all words of `match`, or the mark of `name`."""

    name: str
    turns: tuple[Turn, ...]
    match: str = ""

    def fits(self, task: str) -> bool:
        """Whether a task is this script's."""
        low = task.lower()
        return f"[scripted:{self.name}]" in low or (
            bool(self.match) and all(word in low for word in self.match.lower().split())
        )

    def turn(self, said: Sequence[Said]) -> Turn:
        """The turn for a conversation: the last whose `when` is met, else as many as were answered before."""
        last = next((each.text.lower() for each in reversed(said) if each.role == "user"), "")
        met = [turn for turn in self.turns if turn.when and turn.when.lower() in last]
        if met:
            return met[-1]
        plain = [turn for turn in self.turns if not turn.when] or list(self.turns)
        answered = sum(each.role == "assistant" for each in said)
        return plain[min(answered, len(plain) - 1)]


_LANGUAGES = {
    "javascript": r"javascript|node(\.js)?",
    "bash": r"bash|shell",
    "rust": r"rust",
    "r": r"(?-i:R)",  # the letter alone, as a capital
    "python": r"python",
}


def wanted_language(*texts: str) -> str:
    """The first language that these texts name; python if none does."""
    for text in texts:
        found = [
            (match.start(), name)
            for name, pattern in _LANGUAGES.items()
            if (match := re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE))
        ]
        if found:
            return min(found)[1]
    return "python"


@dataclass(frozen=True, slots=True)
class Scripts:
    """All scripts; the first that fits is played."""

    all: tuple[Script, ...]

    def choose(self, said: Sequence[Said]) -> Script:
        """The script for a conversation; one that says what there is, if none fits."""
        task = next((each.text for each in said if each.role == "user"), "")
        marked = [script for script in self.all if f"[scripted:{script.name}]" in task.lower()]
        for script in (*marked, *self.all):
            if script.fits(task):
                return script
        known = ", ".join(script.name for script in self.all)
        return Script(
            "unknown",
            (Turn(text=f"I am a scripted model and have no script for this task. I can play: {known}."),),
        )


def load_scripts(*paths: Path, built_in: bool = True) -> Scripts:
    """The scripts of these files, and then those that come with us.

    Raises:
        ScriptError: a file is not as it must be.
    """
    texts = [(str(path), path.read_text(encoding="utf-8")) for path in paths]
    if built_in:
        ours = files("retort").joinpath("scripted", "scripts.toml").read_text(encoding="utf-8")
        texts.append(("scripts.toml", ours))
    try:
        return Scripts(tuple(script for name, text in texts for script in parse_scripts(text, name)))
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"not TOML: {error}") from None


def parse_scripts(text: str, where: str) -> list[Script]:
    """The scripts of one file.

    Raises:
        ScriptError: names the script and what is wrong.
    """
    scripts = []
    for entry in tomllib.loads(text).get("scripts", []):
        name = entry.get("name")
        if not isinstance(name, str) or name != name.lower() or not entry.get("turns"):
            raise ScriptError(f"{where}: each of [[scripts]] needs a name in small letters, and turns")
        turns = tuple(_turn(turn, f"{where}: {name}") for turn in entry["turns"])
        scripts.append(Script(name, turns, str(entry.get("match", ""))))
    return scripts


def _turn(entry: Mapping[str, Any], where: str) -> Turn:
    allowed = {each.name for each in fields(Turn)}
    if unknown := sorted(set(entry) - allowed):
        raise ScriptError(f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(allowed))}")
    values = dict(entry)
    if isinstance(values.get("code"), str):
        values["code"] = {"": values["code"]}
    if values.get("finish", "stop") not in ("stop", "length", "refusal"):
        raise ScriptError(f"{where}: finish must be stop, length or refusal")
    try:
        values["mode"] = Mode(values.get("mode", Mode.ANSWER))
    except ValueError:
        raise ScriptError(f"{where}: mode must be one of {', '.join(Mode)}") from None
    values["fails"] = tuple(_turn(each, where) for each in entry.get("fails", ()))
    return Turn(**values)
