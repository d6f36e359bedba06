"""Where the service is, the key to it, and how a client behaves. Found in this order:

1. what the program says: `Config(…)`, `Retort(url=…, api_key=…)`
2. the environment: RETORT_URL, RETORT_API_KEY, and RETORT_CLIENT_TIMEOUT_S and so on for the other settings
3. a file: RETORT_CONFIG, else `retort/config.toml` in XDG_CONFIG_HOME, else in `~/.config`
4. the service that `retort up` started from this folder

A key goes to the address that stands beside it alone; one in the environment without RETORT_URL goes to any.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx

from retort.client.errors import ConfigError
from retort.state import StateFolder

DEFAULT_URL = "http://127.0.0.1:8000"
URL = "RETORT_URL"
API_KEY = "RETORT_API_KEY"
FILE = "RETORT_CONFIG"
PREFIX = "RETORT_CLIENT_"


LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Config:
    """How a client behaves. Seconds may be fractions.

    >>> Config(url="https://retort.example", timeout_s=60, max_retries=5).url
    'https://retort.example'
    """

    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)
    #: For so long `run`, `ask`, `rerun` and `wait` wait for the end of a job; None: as long as it takes.
    timeout_s: float | None = 180.0
    #: For one answer, beyond what the service was asked to wait.
    answer_s: float = 30.0
    connect_s: float = 10.0
    #: Further tries of a request that was not answered, or with 408, 429 or 5xx.
    max_retries: int = 3
    #: Connections, and so requests, at the same time; more wait for one.
    concurrent_requests: int = 10
    #: For jobs that do not say: whether results of equal earlier jobs will do (docs/tasks.md).
    cache: bool = False

    def __post_init__(self) -> None:
        """Hold the values against what they may be.

        Raises:
            ConfigError: one is not allowed.
        """
        object.__setattr__(self, "url", self.url.rstrip("/"))
        try:
            address = httpx.URL(self.url)
        except httpx.InvalidURL as reason:
            raise ConfigError(f"url: {self.url!r} is not an address: {reason}") from None
        if address.scheme not in ("http", "https") or not address.host:
            raise ConfigError(f"url: {self.url!r} is not an address; it begins with http:// or https://")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError("api_key: has characters that no key has")
        for name, least in (("timeout_s", 0), ("answer_s", 0), ("connect_s", 0), ("max_retries", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ConfigError(f"{name}: {value!r} is less than {least}")
        if self.concurrent_requests < 1:
            raise ConfigError(f"concurrent_requests: {self.concurrent_requests!r} is less than 1")

    @classmethod
    def find(
        cls,
        env: Mapping[str, str] | None = None,
        state: StateFolder | None = None,
        *,
        url: str | None = None,
        api_key: str | None = None,
    ) -> "Config":
        """What is configured for this user and folder.

        Raises:
            ConfigError: something that is configured cannot be used.
        """
        env = os.environ if env is None else env
        state = state or StateFolder.find()
        said = _from_file(env)
        local = str(state.status().get("url") or DEFAULT_URL).rstrip("/")
        file_url = str(said.pop("url", "")).rstrip("/") or None
        file_key = said.pop("api_key", None)
        address = (url or env.get(URL) or file_url or local).rstrip("/")
        # A key of the environment belongs to the address of the environment, if there is one.
        beside = (env.get(URL) or address).rstrip("/") == address
        key = api_key or (env.get(API_KEY) if beside else None)
        if not key and file_key and address == (file_url or local):
            key = file_key
        if not key and address == local:
            key = state.api_key()
        for name in _OTHERS:
            if given := env.get(PREFIX + name.upper()):
                said[name] = _parsed(PREFIX + name.upper(), given)
        return cls(url=address, api_key=key or None, **_checked(said))

    def for_httpx(self) -> dict[str, Any]:
        """The settings of an httpx client."""
        headers = {"User-Agent": "retort-client"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": httpx.Timeout(self.connect_s, read=self.answer_s, write=self.answer_s, pool=None),
            "limits": httpx.Limits(max_connections=self.concurrent_requests),
            # No proxy between us and our own machine.
            "trust_env": httpx.URL(self.url).host not in LOOPBACK,
        }


_OTHERS = tuple(each.name for each in fields(Config) if each.name not in ("url", "api_key"))


def config_file(env: Mapping[str, str]) -> Path:
    """The file that would be read."""
    if named := env.get(FILE):
        return Path(named).expanduser()
    folder = env.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "retort" / "config.toml"


def _from_file(env: Mapping[str, str]) -> dict[str, Any]:
    """What the configuration file says; nothing where there is none."""
    path = config_file(env)
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except FileNotFoundError:
        if env.get(FILE):
            raise ConfigError(f"{FILE} names {path}, which does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError) as reason:
        raise ConfigError(f"{path} cannot be read: {reason}") from None
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise ConfigError(f"{path}: {reason}") from None
    known = {"url", "api_key", *_OTHERS}
    if unknown := sorted(set(said) - known):
        raise ConfigError(
            f"{path}: {', '.join(unknown)} is not a setting; these are: {', '.join(sorted(known))}"
        )
    if "api_key" in said and mode & 0o077:
        raise ConfigError(f"{path} holds a key, and others may read it: chmod 600 {path}")
    for name in ("url", "api_key"):
        if name in said and not isinstance(said[name], str):
            raise ConfigError(f"{path}: {name} is not a text")
    return _checked(said, f"{path}: ")


def _parsed(name: str, text: str) -> Any:
    """A variable's value, written as in the file."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"{name}: {text!r} is neither a number nor true or false") from None


def _checked(said: dict[str, Any], where: str = "") -> dict[str, Any]:
    wanted = {"cache": bool, "max_retries": int, "concurrent_requests": int}
    for name, value in said.items():
        if name in ("url", "api_key"):
            continue
        kinds = wanted.get(name, (int, float))
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise ConfigError(f"{where}{name}: {value!r} is not what it may be")
    return said
