"""The seam by which tests kill processes: refused in earnest, and nothing without its setting."""

import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ValidationError

from tests.harness import ROOT
from worker import faults
from worker.hooks.settings import HookSettings
from worker.settings import WorkerSettings

JOB = UUID(int=5)


@pytest.mark.parametrize("kind", [WorkerSettings, HookSettings])
def test_fuses_are_refused_unless_it_is_a_test(
    kind: type[WorkerSettings] | type[HookSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"DATABASE_URL": "x", "REDIS_URL": "x", "FAULT_FUSES": str(tmp_path)}.items():
        monkeypatch.setenv(f"RETORT_{name}", value)
    with pytest.raises(ValidationError, match="it is for tests"):
        kind()  # type: ignore[call-arg]
    monkeypatch.setenv("RETORT_TEST_MODE", "true")
    assert kind().fault_fuses == tmp_path  # type: ignore[call-arg]


def test_without_the_setting_nothing_happens(tmp_path: Path) -> None:
    faults.arm(None)
    faults.at("claimed", JOB)


PASSES = """
import sys
from pathlib import Path
from uuid import UUID
from worker import faults
faults.arm(Path(sys.argv[1]))
faults.at('claimed', UUID(int=5))
faults.at('ended', UUID(int=5))
"""


def passes(folder: Path) -> int:
    """What becomes of a process that passes two boundaries with a job."""
    command = [sys.executable, "-c", PASSES, str(folder)]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False).returncode


def test_a_fuse_burns_once_one_of_a_job_each_time(tmp_path: Path) -> None:
    assert passes(tmp_path) == 0
    (tmp_path / "ended").touch()
    assert [passes(tmp_path), passes(tmp_path)] == [-signal.SIGKILL, 0]
    (tmp_path / f"claimed.{UUID(int=6)}").touch()
    assert passes(tmp_path) == 0
    (tmp_path / f"claimed.{JOB}").touch()
    assert [passes(tmp_path), passes(tmp_path)] == [-signal.SIGKILL, -signal.SIGKILL]
