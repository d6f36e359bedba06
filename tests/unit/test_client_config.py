"""How a client finds its service, and which key goes where."""

from pathlib import Path
from typing import Any

import pytest

from retort.client import Config, ConfigError
from retort.client.config import DEFAULT_URL
from retort.state import StateFolder

ELSEWHERE = "https://retort.example"


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """The state folder of a service on port 1234."""
    folder = StateFolder(tmp_path / "state")
    folder.create()
    folder.keep_api_key("rt_local")
    folder.write_status({"url": "http://127.0.0.1:1234"})
    return folder


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment without a configuration file."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def write(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    """A configuration file at its usual place."""
    path = tmp_path / "config" / "retort" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def found(config: Config) -> tuple[str, str | None]:
    return config.url, config.api_key


def test_without_anything_said_the_service_of_this_folder_is_used(
    state: StateFolder, env: dict[str, str]
) -> None:
    assert found(Config.find(env, state)) == ("http://127.0.0.1:1234", "rt_local")


def test_without_anything_the_default_address_is_tried(tmp_path: Path, env: dict[str, str]) -> None:
    assert found(Config.find(env, StateFolder(tmp_path / "none"))) == (DEFAULT_URL, None)


def test_variables_come_before_the_file_and_the_folder(
    tmp_path: Path, state: StateFolder, env: dict[str, str]
) -> None:
    write(tmp_path, f'url = "{ELSEWHERE}"\napi_key = "rt_file"\ntimeout_s = 5\nmax_retries = 7')
    env |= {"RETORT_URL": "https://other.example/", "RETORT_API_KEY": "rt_env", "RETORT_CLIENT_TIMEOUT_S": "9"}
    config = Config.find(env, state)
    assert found(config) == ("https://other.example", "rt_env")
    assert (config.timeout_s, config.max_retries) == (9, 7)


def test_the_file_comes_before_the_folder(tmp_path: Path, state: StateFolder, env: dict[str, str]) -> None:
    write(tmp_path, f'url = "{ELSEWHERE}"\napi_key = "rt_file"')
    assert found(Config.find(env, state)) == (ELSEWHERE, "rt_file")


def test_what_the_program_says_comes_first(tmp_path: Path, state: StateFolder, env: dict[str, str]) -> None:
    env |= {"RETORT_URL": "https://other.example", "RETORT_API_KEY": "rt_env"}
    assert found(Config.find(env, state, url=ELSEWHERE, api_key="rt_said")) == (ELSEWHERE, "rt_said")


def test_the_key_of_the_environment_is_not_sent_past_its_address(
    state: StateFolder, env: dict[str, str]
) -> None:
    env |= {"RETORT_URL": "https://other.example", "RETORT_API_KEY": "rt_env"}
    assert Config.find(env, state, url=ELSEWHERE).api_key is None
    assert Config.find(env, state, url="https://other.example").api_key == "rt_env"
    del env["RETORT_URL"]
    assert Config.find(env, state, url=ELSEWHERE).api_key == "rt_env"


@pytest.mark.parametrize("how", ["variable", "argument", "file"])
def test_the_key_of_the_folder_is_never_sent_elsewhere(
    tmp_path: Path, state: StateFolder, env: dict[str, str], how: str
) -> None:
    if how == "file":
        write(tmp_path, f'url = "{ELSEWHERE}"')
    if how == "variable":
        env["RETORT_URL"] = ELSEWHERE
    url = ELSEWHERE if how == "argument" else None
    assert found(Config.find(env, state, url=url)) == (ELSEWHERE, None)


def test_the_key_of_the_file_is_never_sent_elsewhere(
    tmp_path: Path, state: StateFolder, env: dict[str, str]
) -> None:
    write(tmp_path, f'url = "{ELSEWHERE}"\napi_key = "rt_file"')
    assert Config.find(env | {"RETORT_URL": "https://other.example"}, state).api_key is None
    assert Config.find(env | {"RETORT_URL": "http://127.0.0.1:1234"}, state).api_key == "rt_local"
    assert Config.find(env | {"RETORT_URL": ELSEWHERE + "/"}, state).api_key == "rt_file"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("url = ", "Invalid value"),
        ('uri = "x"', "uri is not a setting"),
        ("url = 7", "url is not a text"),
        ('timeout_s = "long"', "timeout_s: 'long'"),
        ("cache = 1", "cache: 1"),
        ("max_retries = true", "max_retries: True"),
        ("max_retries = -1", "max_retries: -1 is less"),
        ("timeout_s = nan", "timeout_s: nan"),
        ("concurrent_requests = 0", "concurrent_requests"),
        ('url = "retort.example"', "begins with http"),
        ('api_key = "rt_\\n"', "characters that no key has"),
    ],
)
def test_a_wrong_file_is_told_and_never_guessed_at(
    tmp_path: Path, state: StateFolder, env: dict[str, str], text: str, why: str
) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=why):
        Config.find(env, state)


def test_a_file_with_a_key_that_others_may_read_is_refused(
    tmp_path: Path, state: StateFolder, env: dict[str, str]
) -> None:
    path = write(tmp_path, 'api_key = "rt_file"', mode=0o644)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}") as refused:
        Config.find(env, state)
    assert "rt_file" not in str(refused.value)


def test_a_file_that_is_named_and_not_there_is_told(state: StateFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RETORT_CONFIG names"):
        Config.find({"RETORT_CONFIG": str(tmp_path / "none")}, state)


@pytest.mark.parametrize("value", ["soon", "1 2", "'3'"])
def test_a_wrong_variable_is_told(state: StateFolder, env: dict[str, str], value: str) -> None:
    with pytest.raises(ConfigError, match=r"timeout_s|TIMEOUT_S"):
        Config.find(env | {"RETORT_CLIENT_TIMEOUT_S": value}, state)


def test_a_key_is_never_shown() -> None:
    config = Config(api_key="rt_secret")
    assert "rt_secret" not in repr(config)


@pytest.mark.parametrize(
    ("url", "proxies"), [("http://127.0.0.1:1", False), ("http://[::1]:1", False), (ELSEWHERE, True)]
)
def test_no_proxy_stands_between_us_and_our_own_machine(url: str, proxies: bool) -> None:
    settings: dict[str, Any] = Config(url).for_httpx()
    assert settings["trust_env"] is proxies


def test_the_key_file_is_private(state: StateFolder) -> None:
    assert state.api_key_file.stat().st_mode & 0o777 == 0o600
    assert state.root.stat().st_mode & 0o777 == 0o700
