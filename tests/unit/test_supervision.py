"""The small parts of `retort up`: its folder, its logs, its words, its view of processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retort import commands, doctor, logs, processes, readiness
from retort.children import describe_exit
from retort.readiness import service_url
from retort.starting import StartFailed, free_port
from retort.state import AlreadyRunning, StateFolder


def test_only_one_holds_a_folder(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "s")
    assert state.holder() is None
    with state.hold():
        assert state.holder() == os.getpid()
        with pytest.raises(AlreadyRunning, match=str(os.getpid())), StateFolder(tmp_path / "s").hold():
            pass
    assert state.holder() is None


def test_a_lock_file_without_a_holder_means_nothing(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    (tmp_path / "lock").write_text("1")
    assert state.holder() is None


def test_a_broken_status_file_is_no_status(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text("{")
    assert StateFolder(tmp_path).status() == {}


def test_each_folder_has_a_worker_name_of_its_own(tmp_path: Path) -> None:
    first, second = StateFolder(tmp_path / "a").instance, StateFolder(tmp_path / "b").instance
    assert first != second
    assert first == StateFolder(tmp_path / "a").instance


def test_logs_are_followed_by_lines_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.log"
    path.write_text("old\n")
    follower = logs.Follower(path)
    with path.open("a") as writer:
        writer.write("one\ntw")
        writer.flush()
        assert follower.lines() == ["one"]
        writer.write("o\n")
        writer.flush()
        assert follower.lines() == ["two"]
        monkeypatch.setattr(logs, "LIMIT_BYTES", 10)
        follower.bound()
        writer.write("three\n")
        writer.flush()
    assert follower.lines() == ["three"]
    assert path.read_text() == "three\n"
    assert (tmp_path / "x.log.1").read_text() == "old\none\ntwo\n"


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1")],  # noqa: S104
)
def test_the_url_shown_is_one_that_can_be_reached(host: str, url: str) -> None:
    assert service_url(host, 1) == url


def test_readiness_says_what_is_missing() -> None:
    assert not readiness.ask("127.0.0.1", free_port("127.0.0.1", 0)).ok
    body = b'{"ready":false,"database":{"ready":true},"workers":{"ready":false,"why_not":"no image"}}'
    assert readiness._explain(body) == "workers: no image"
    assert readiness._explain(b"<html>") == ""


def test_exits_in_words() -> None:
    assert describe_exit(3) == "ended with exit code 3"
    assert describe_exit(-9) == "was ended by SIGKILL"


def test_a_port_of_another_is_refused() -> None:
    with pytest.raises(StartFailed, match="--port"):
        free_port("192.0.2.1", 1)  # an address that is nobody's


def test_the_api_gets_neither_model_keys_nor_the_engine() -> None:
    env = {"PATH": "p", "RETORT_REDIS_URL": "r", "SOME_MODEL_API_KEY": "k", "DOCKER_HOST": "d", "LC_ALL": "C"}
    env |= {"RETORT_GATEWAY_KEY": "k", "RETORT_GATEWAY_KEY_FILE": "f", "RETORT_GATEWAYS": "g"}
    assert commands.for_api(env) == {"PATH": "p", "RETORT_REDIS_URL": "r", "LC_ALL": "C"}


def test_workers_do_not_get_the_key_to_secrets_of_webhooks() -> None:
    key = {"RETORT_WEBHOOK_KEY_FILE": "f"}
    env = {
        "PATH": "p",
        "RETORT_GATEWAY_URL": "g",
        "AWS_ACCESS_KEY_ID": "a",
        "RETORT_STORAGE_URL": "s3://b",
        **key,
    }
    for given in commands.for_workers(env, "x"):
        assert given is not None
        assert not key.keys() & given.keys()
    for alone in commands.for_workers({"PATH": "p", **key}, "x")[:1]:
        assert alone == {"PATH": "p"}
    assert commands.for_hooks(env) == {"PATH": "p", "RETORT_STORAGE_URL": "s3://b", **key}


def test_the_api_gets_the_keys_of_a_bucket_where_files_are_in_one() -> None:
    secret = {"AWS_SECRET_ACCESS_KEY": "s"}
    for url, expected in (("file:///folder", {}), ("s3://bucket", secret)):
        where = {"RETORT_STORAGE_URL": url}
        assert commands.for_api(where | secret) == where | expected


def test_pg_variables_reach_only_a_database_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    monkeypatch.setenv("PGPORT", "1")
    assert "PGPORT" not in commands.environment()
    monkeypatch.setenv("RETORT_DATABASE_URL", "postgresql+psycopg://x")
    assert commands.environment()["PGPORT"] == "1"


def test_a_stubborn_child_is_killed_with_its_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "log"
    process = processes.spawn([sys.executable, "-c", code], log=log, env=dict(os.environ))
    while not log.read_text().strip():
        time.sleep(0.01)
    assert processes.end(process, ((signal.SIGTERM, 0.2),)) == -signal.SIGKILL
    grandchild = int(log.read_text())
    deadline = time.monotonic() + 5
    while processes.begun(grandchild) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_is_dead_but_not_collected_is_gone() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.begun(process.pid) is None
    process.wait()
    assert processes.begun(os.getpid()) is not None


@pytest.mark.parametrize(
    ("version", "older"),
    [
        ("1.1.5+ds1", True),
        ("1.2.8", False),
        ("1.2.7", True),
        ("1.3.0", True),
        ("1.3.4", False),
        ("1.4.0", False),
    ],
)
def test_versions_are_judged_within_their_series(version: str, older: bool) -> None:
    assert doctor.older_than_fixed(doctor.parse_version(version), doctor.RUNC_FIXED) is older
