"""What is measured: tasks in words with a check, and programs. Read from files of TOML, ours and others.

>>> read_tasks('[[tasks]]\\nname = "one"\\ntask = "Print 1"\\ncheck.stdout = "1"', "my.toml")[0].category
'own'
"""

import tomllib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

#: Bytes of one file that a task brings along.
MOST_FILE = 2 * 2**20

Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Category = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9 -]{0,40}$")]


class TaskError(ValueError):
    """A file of tasks is not as it must be; says which field of which task."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Check(_Strict):
    """How a result is judged: exactly one of the two. `stdout`: but for spaces at the ends of lines."""

    tests: Text | None = None
    stdout: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "Check":
        if (self.tests is None) == (self.stdout is None):
            raise ValueError("give exactly one of tests and stdout")
        return self


class InputFile(_Strict):
    """A file for the work folder: its text, or where it lies beside the file of tasks."""

    name: Text
    text: str | None = None
    path: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> "InputFile":
        if (self.text is None) == (self.path is None):
            raise ValueError("give exactly one of text and path")
        return self


class Task(_Strict):
    """One thing to measure. Models are asked the `task`; the execution side runs the `program`."""

    name: Name
    category: Category = "own"
    language: Text = "python"
    task: Text | None = None
    program: Text | None = None
    check: Check | None = None
    verdict: Literal[
        "ok", "error", "timeout", "out_of_memory", "output_limit", "disk_limit", "compile_error"
    ] = "ok"
    files: tuple[InputFile, ...] = Field(default=(), strict=False)
    stdin: str | None = None
    args: tuple[str, ...] = Field(default=(), strict=False)
    profile: Name | None = None
    limits: dict[str, int | float] = {}
    #: How far something was driven: lines to recall from, steps of a calculation. Only shown.
    depth: int | None = None

    @model_validator(mode="after")
    def _something(self) -> "Task":
        if self.task is None and self.program is None:
            raise ValueError("give a task, a program, or both")
        if self.task is not None and self.check is None:
            raise ValueError("a task needs a check: what nobody judges says nothing of a model")
        if self.task is not None and self.verdict != "ok":
            raise ValueError("verdict is for programs alone; a task is right if its check passes")
        return self

    def content(self) -> dict[str, Any]:
        """All of it as JSON, for the digest of a plan."""
        return self.model_dump(mode="json", exclude_defaults=True)


class _File(_Strict):
    tasks: tuple[Task, ...] = Field(strict=False, min_length=1)


def read_tasks(text: str, where: str, folder: Path | None = None) -> list[Task]:
    """The tasks of one file; `folder` is where files that they name lie.

    Raises:
        TaskError: names the file, the task and the field.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{where}: not TOML: {error}") from None
    try:
        tasks = _File.model_validate(document).tasks
    except ValidationError as error:
        raise TaskError("\n".join(f"{where}: {line}" for line in _told(error, document))) from None
    return [_filled(task, where, folder) for task in tasks]


def load_set(name: str) -> list[Task]:
    """The tasks of a set that comes with us."""
    return read_tasks(set_text(name), f"{name}.toml")


def set_text(name: str) -> str:
    """The text of a file that comes with us."""
    return files("retort").joinpath("bench", "data", f"{name}.toml").read_text(encoding="utf-8")


def load_file(path: Path) -> list[Task]:
    """The tasks of a file of the user's own.

    Raises:
        TaskError: it cannot be read, or is not as it must be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TaskError(f"{path}: not UTF-8 text") from None
    return read_tasks(text, str(path), path.parent)


def distinct(tasks: Iterable[Task]) -> list[Task]:
    """The same tasks, if no two have the same name.

    Raises:
        TaskError: names the name.
    """
    found: dict[str, Task] = {}
    for task in tasks:
        if task.name in found:
            raise TaskError(f"name: two tasks are called {task.name!r}")
        found[task.name] = task
    return list(found.values())


def _filled(task: Task, where: str, folder: Path | None) -> Task:
    """The task with the text of its files."""
    if not any(file.path for file in task.files):
        return task
    filled = []
    for number, file in enumerate(task.files):
        field = f"{where}: task {task.name!r}: files.{number}.path"
        if file.path is None:
            filled.append(file)
            continue
        if folder is None:
            raise TaskError(f"{field}: there is no folder to look in")
        path = folder / file.path
        try:
            if path.stat().st_size > MOST_FILE:
                raise TaskError(f"{field}: {file.path} is larger than {MOST_FILE} bytes")
            filled.append(InputFile(name=file.name, text=path.read_bytes().decode()))
        except OSError as error:
            raise TaskError(f"{field}: {file.path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TaskError(f"{field}: {file.path} is not UTF-8 text") from None
    return task.model_copy(update={"files": tuple(filled)})


def _told(error: ValidationError, document: dict[str, Any]) -> list[str]:
    """One line for each fault: the task by its name where it has one, the field, what is wrong."""
    lines = []
    for fault in error.errors():
        place = [str(part) for part in fault["loc"]]
        if len(place) > 1 and place[0] == "tasks":
            entry = document["tasks"][int(place[1])]
            name = entry.get("name") if isinstance(entry, dict) else None
            task = f"task {name!r}" if isinstance(name, str) else f"task {int(place[1]) + 1}"
            place = [task, *([".".join(place[2:])] if place[2:] else [])]
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "is no field that is known"
        lines.append(": ".join([*place, message]))
    return lines
