"""`retort engine` where no engine answers. Programs of our own stand in for apt-get and dockerd."""

import os
from pathlib import Path

import pytest

from retort import engine, processes
from retort.state import StateFolder


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the whole PATH, on a machine where we are root and no systemd runs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine, "_path", lambda: str(folder))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(engine, "_sudo", list)
    monkeypatch.setattr(engine, "_forget_stale_pids", lambda: None)
    monkeypatch.setattr(engine, "SYSTEMD", tmp_path / "no-systemd")
    return folder


def program(path: Path, script: str) -> None:
    """Write an executable."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def answering_when(monkeypatch: pytest.MonkeyPatch, there: Path) -> None:
    """The engine answers once a file is there."""
    monkeypatch.setattr(engine, "answers", lambda: None if there.exists() else "no such socket")


def test_a_missing_engine_is_installed_started_remembered_and_ended(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    up, calls = tmp_path / "up", tmp_path / "calls"
    answering_when(monkeypatch, up)
    dockerd = programs / "dockerd"
    program(
        programs / "apt-get",
        f'echo "$@" >> {calls}\n'
        f'[ "$1" = install ] || exit 0\n'
        f"printf '#!/bin/sh\\n: > {up}\\nexec /bin/sleep 60\\n' > {dockerd}; chmod 755 {dockerd}",
    )
    state = StateFolder(tmp_path / "state")
    said: list[str] = []
    engine.ensure(state, said.append)
    assert calls.read_text().splitlines()[0].startswith("update")
    assert "docker.io" in calls.read_text()
    assert said[-1] == "starting dockerd"
    pid = int((state.root / "dockerd.pid").read_text().split()[0])
    assert processes.begun(pid) is not None

    engine.ensure(state, said.append)  # it answers: nothing to do
    assert said[-1] == "starting dockerd"
    assert engine.stop(state) is True
    assert processes.begun(pid) is None
    assert engine.stop(state) is False


def test_an_engine_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    (tmp_path / "dockerd.pid").write_text(f"{os.getpid()} 1\n")  # a process id that was given anew
    assert engine.stop(state) is False


def test_a_dockerd_that_ends_is_told_with_its_log(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering_when(monkeypatch, tmp_path / "never")
    program(programs / "dockerd", "echo no iptables here; exit 1")
    with pytest.raises(engine.EngineError, match="no iptables here"):
        engine.ensure(StateFolder(tmp_path / "state"), lambda _: None)


def test_an_installation_that_fails_is_told(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering_when(monkeypatch, tmp_path / "never")
    program(programs / "apt-get", "echo no network; exit 100")
    with pytest.raises(engine.EngineError, match=r"(?s)no network.*sudo apt-get install"):
        engine.ensure(StateFolder(tmp_path / "state"), lambda _: None)


def test_without_rights_a_person_is_told_what_to_do(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering_when(monkeypatch, tmp_path / "never")
    monkeypatch.setattr(engine, "_sudo", lambda: None)
    with pytest.raises(engine.EngineError, match="usermod -aG docker"):
        engine.ensure(StateFolder(tmp_path / "state"), lambda _: None)


def test_an_engine_chosen_by_docker_host_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(engine.EngineError, match="DOCKER_HOST"):
        engine.ensure(StateFolder(tmp_path / "state"), lambda _: None)
