"""What `retort doctor` makes of the worker's findings, and what `retort engine gvisor` writes."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retort import gvisor, proofs
from retort.engine import EngineError

Run = Callable[..., tuple[int, str, str]]


def said(*found: dict[str, Any], code: int = 0, err: str = "") -> Run:
    """A worker's module that answers this."""
    return lambda *_: (code, json.dumps(found), err)


GOOD = {"check": "memory limit", "ok": True, "expected": "x", "found": "out_of_memory", "limit": "memory"}
SETTING = {"check": "CapDrop", "ok": True, "expected": "['ALL']", "found": "['ALL']", "limit": None}


def test_each_limit_is_shown_with_what_happened() -> None:
    settings, memory = proofs.proven(said(SETTING, GOOD), "runc")
    assert (settings.ok, settings.name) == (True, "runc: settings")
    assert (memory.ok, memory.name) == (True, "runc: memory limit")
    assert "out_of_memory" in memory.found
    assert memory.todo == ""


def test_what_does_not_hold_says_what_to_do() -> None:
    bad = {**GOOD, "ok": False, "found": "ok"}
    weak = {**SETTING, "ok": False, "found": "[]"}
    setting, memory = proofs.proven(said(weak, bad, code=1), "runsc")
    assert (setting.ok, memory.ok) == (False, False)
    assert "refuses jobs on runsc" in setting.todo
    assert "memory cgroup controller" in memory.todo


def test_every_limit_that_is_tried_has_advice() -> None:
    from worker.sandbox.trials import TRIALS

    assert {trial.limit for trial in TRIALS} == set(proofs.TODO)


def test_a_worker_that_says_nothing_is_a_failure() -> None:
    (check,) = proofs.proven(lambda *_: (1, "", "Traceback\nImportError: gone"), "runc")
    assert (check.ok, check.found) == (False, "ImportError: gone")


@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("release-20260801.0", False),
        ("release-20250101.0", True),
        ("0.0~20221219.0", True),
        ("20269999", False),
    ],
)
def test_the_age_of_gvisor(version: str, old: bool) -> None:
    assert proofs._old(version, datetime(2026, 11, 21, tzinfo=UTC)) is old


def test_the_engines_configuration_keeps_what_it_has() -> None:
    before = {"debug": True, "runtimes": {"crun": {"path": "/usr/bin/crun"}}}
    after = gvisor.with_runsc(before, "/usr/bin/runsc")
    assert after["debug"] is True
    assert after["runtimes"]["crun"] == {"path": "/usr/bin/crun"}
    assert "--platform=ptrace" in after["runtimes"]["runsc"]["runtimeArgs"]
    assert before["runtimes"] == {"crun": {"path": "/usr/bin/crun"}}


def test_a_runtime_whose_program_was_removed_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine keeps the entry, and fails only when it starts a container."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert not gvisor.has_runsc({"runc": {"path": "runc"}})
    assert gvisor.has_runsc({"runsc": {"path": sys.executable}})
    gone = {"runsc": {"path": "/nowhere/runsc"}}
    assert not gvisor.has_runsc(gone)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")  # whose programs are not ours to see
    assert gvisor.has_runsc(gone)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_configuration_that_is_broken_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    config = tmp_path / "daemon.json"
    config.write_text(text)
    monkeypatch.setattr(gvisor, "CONFIG", config)
    with pytest.raises(EngineError, match="mend it"):
        gvisor._config()
    assert config.read_text() == text
