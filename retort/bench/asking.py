"""The request that a task becomes. Of two models' requests only the field `model` differs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retort.bench.tasks import Task

Request = dict[str, Any]

#: Put behind a Python program that is to be tested: what the service's own harness calls, too.
_PYTHON_TESTS = """
import sys as _sys
import unittest as _unittest
for _name, _thing in list(globals().items()):
    if _name.startswith("test") and callable(_thing) and not isinstance(_thing, type):
        _thing()
_suite = _unittest.defaultTestLoader.loadTestsFromModule(_sys.modules["__main__"])
if _suite.countTestCases() and not _unittest.TextTestRunner(stream=_sys.stderr).run(_suite).wasSuccessful():
    _sys.exit(1)
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every request has alike. `None`: the service's default."""

    attempts: int | None = None
    preset: str | None = None
    reuse: bool = False  # sandboxes in which an earlier run of the same caller was
    labels: Mapping[str, str] | None = None


def ask(task: Task, model: str, settings: Settings) -> Request:
    """The request that asks a model. No other model may answer, and nothing may come from a cache."""
    request: Request = {
        "task": (task.task or "").strip(),
        "model": model,
        "fallbacks": [],
        "cache": False,
        "check": None if task.check is None else task.check.model_dump(exclude_none=True),
        **_common(task, settings),
    }
    if settings.attempts is not None:
        request["max_attempts"] = settings.attempts
    if settings.preset is not None:
        request["preset"] = settings.preset
    return request


def run(task: Task, settings: Settings) -> Request:
    """The request that runs the task's program, its tests behind it."""
    code = task.program or ""
    if task.check is not None and task.check.tests is not None:
        code += f"\n{task.check.tests}\n"
        if task.language.partition("@")[0] == "python":
            code += _PYTHON_TESTS
    return {"code": code, "cache": False, **_common(task, settings)}


def same_for_all(request: Request) -> str:
    """A digest of all but the model: equal for all that were asked the same."""
    rest = {name: value for name, value in request.items() if name != "model"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _common(task: Task, settings: Settings) -> Request:
    request: Request = {"language": task.language}
    if task.files:
        request["files"] = [{"name": file.name, "content": file.text} for file in task.files]
    for name in ("stdin", "profile"):
        if (value := getattr(task, name)) is not None:
            request[name] = value
    if task.args:
        request["args"] = list(task.args)
    if task.limits:
        request["limits"] = dict(task.limits)
    if settings.reuse:
        request["reuse"] = "caller"
    if settings.labels:
        request["labels"] = dict(settings.labels)
    return request
