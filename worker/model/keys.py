"""Keys of gateways: where they come from, what they must look like, and how they stay unseen.

>>> key = Key("hs_0123456789abcdefghijklmnopqrstuv")
>>> key
Key(35 characters)
>>> key.redact("401: hs_0123456789abcdefghijklmnopqrstuv is unknown")
'401: [key] is unknown'
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

log = logging.getLogger(__name__)

#: Bytes of a file that is taken for a key; more is some other file.
MOST_FILE = 16384


class GatewayError(ValueError):
    """A setting of a gateway is wrong. The message names it, says what to set, and shows nothing of a key."""


class Key:
    """A key that does not print."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself: for the request's header alone."""
        return self._value

    def redact(self, text: str) -> str:
        """The text without the key, and without a longer part of it, as some gateways quote one."""
        value = self._value
        text = text.replace(value, "[key]")
        if len(value) >= 16:
            for part in (value[:12], value[-8:]):
                text = text.replace(part, "[key]")
        return text

    def redact_whole(self, text: str) -> str:
        """The text without the key itself: for a model's answer, in which parts of it may be chance."""
        return text.replace(self._value, "[key]") if len(self._value) >= 8 else text

    def current(self) -> "Key":
        """The key for one call: itself."""
        return self

    def __repr__(self) -> str:
        return f"Key({len(self._value)} characters)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class KeyShape:
    """What a right key looks like: how it begins, and its least number of characters (0: none is needed)."""

    prefix: str = ""
    least: int = 20


@dataclass(frozen=True, slots=True)
class Source:
    """Where a key comes from: a variable's name or its value, or a file."""

    env: str | None = None
    file: str | Path | None = None
    value: SecretStr | None = None


def of_settings(value: SecretStr | None, file: Path | None) -> Source | None:
    """The source that the variables of a single gateway name.

    Raises:
        GatewayError: there are two.
    """
    if value is not None and file is not None:
        raise GatewayError("RETORT_GATEWAY_KEY and RETORT_GATEWAY_KEY_FILE are both set; keep one")
    if value is not None:
        return Source(env="RETORT_GATEWAY_KEY", value=value)
    if file is not None:
        return Source(env="RETORT_GATEWAY_KEY_FILE", file=file)
    return None


# What example configurations have where the key goes.
_PLACEHOLDER = re.compile(
    r"""
      ^[<{[$%].*[>}\]%]$ | ^\$\w+$                    # <key> {key} [key] ${KEY} %KEY% $KEY
    | (your|my|the|some|insert|put|enter|add|paste)[-_. ]?.*(key|token|secret|here)
    | (change|replace)[-_. ]?(me|this|it)
    | place[-_]?holder | dummy | example | redacted | \bto[-_]?do\b
    | ^(api|secret|access)?[-_. ]?(key|token)$
    | ^(none|null|nil|undefined|test|secret|password|fake)$
    | x{6,} | \*{3,} | \.{3,} | …
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_placeholder(key: str) -> bool:
    """Whether a key is what an example has in its place: `YOUR_API_KEY`, `<key>`, `sk-xxxxxxxx`, `changeme`."""
    body = re.sub(r"^[A-Za-z]{1,6}[-_]", "", key)  # sk-, hs_
    return bool(_PLACEHOLDER.search(key)) or (len(body) > 3 and len(set(body)) <= 2)


def read(source: Source, shape: KeyShape, where: str, environ: Mapping[str, str]) -> Key | None:
    """The key of a source; None where `shape` says that none is needed and none is given.

    Raises:
        GatewayError: it is missing or cannot be right; says where to set it, and nothing of it.
    """
    text, place = _text(source, where, environ)
    if text is None:
        if shape.least == 0:
            return None
        raise GatewayError(f"{where}: there is no key; {place}")
    return _checked(text, place, shape, where)


def _checked(text: str, place: str, shape: KeyShape, where: str) -> Key:
    key = text.strip()
    if not key:
        raise GatewayError(f"{where}: the key is empty; {place}")
    if is_placeholder(key):
        raise GatewayError(f"{where}: the key is a placeholder from an example; {place}")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise GatewayError(f"{where}: the key has blanks or characters beyond ASCII; {place}")
    if not key.startswith(shape.prefix):
        raise GatewayError(f"{where}: the key must begin with {shape.prefix!r} and does not; {place}")
    if len(key) < shape.least:
        raise GatewayError(
            f"{where}: the key appears truncated: it has {len(key)} characters, a right one at least "
            f"{shape.least}; {place}",
        )
    return Key(key)


class KeyFile:
    """A key in a file, which is read again when the file has changed.

    Raises:
        GatewayError: as `read`.
    """

    def __init__(self, file: str | Path, shape: KeyShape, where: str) -> None:
        self._file, self._shape, self._where = file, shape, where
        self._seen = self._stamp()
        self._key = self._read()

    def current(self) -> Key:
        """The key for one call. What is in the file now and cannot be right is logged once, and not used."""
        seen = self._stamp()
        if seen != self._seen:
            self._seen = seen
            try:
                self._key = self._read()
            except GatewayError as error:
                log.warning("%s; the key that was there before is used", error)
            else:
                log.info("%s: the key was read again", self._where)
        return self._key

    def _read(self) -> Key:
        return _checked(*_text_of(self._file, self._where), self._shape, self._where)

    def _stamp(self) -> tuple[int, int, int] | None:
        """What differs once the file has changed. None: it is not there."""
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def held(source: Source, shape: KeyShape, where: str, environ: Mapping[str, str]) -> Key | KeyFile | None:
    """What gives a gateway's key; None where `shape` says that none is needed and none is given.

    Raises:
        GatewayError: as `read`.
    """
    if source.value is None and source.file is not None:
        return KeyFile(source.file, shape, where)
    return read(source, shape, where, environ)


def _text(source: Source, where: str, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """What the source holds, and a hint on where to put it right."""
    if source.value is not None:
        return source.value.get_secret_value(), f"set {source.env} to the gateway's key"
    if source.file is not None:
        return _text_of(source.file, where)
    if source.env is not None:
        return environ.get(source.env), f"set {source.env} to the gateway's key"
    if where == "gateways.default":
        return (
            None,
            "set RETORT_GATEWAY_KEY or RETORT_GATEWAY_KEY_FILE, "
            "or RETORT_GATEWAY_KEY_LENGTH=0 if it needs none",
        )
    return None, "name a variable with key_env or a file with key_file, or set key_length = 0 if it needs none"


def _text_of(file: str | Path, where: str) -> tuple[str, str]:
    """The same of a file."""
    place = f"put the key alone into {file}"
    try:
        with open(file, "rb") as opened:
            data = opened.read(MOST_FILE + 1)
        if len(data) > MOST_FILE:
            raise GatewayError(f"{where}: {file} is too long for a key; {place}")
        return data.decode("utf-8"), place
    except OSError as error:
        raise GatewayError(f"{where}: {file} cannot be read: {error.strerror}; {place}") from None
    except UnicodeDecodeError:
        raise GatewayError(f"{where}: {file} is not text; {place}") from None
