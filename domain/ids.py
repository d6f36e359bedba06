"""Ids of rows and API keys."""

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

KEY_PREFIX = "rt_"


def new_id() -> UUID:
    """A UUIDv7: sorts by the time it was made, so that an index on it is also an order."""
    return uuid7()


def id_at(moment: datetime) -> UUID:
    """The least id of a moment: every job that was made then or later has a greater one.

    >>> from datetime import UTC
    >>> str(id_at(datetime(2026, 1, 1, tzinfo=UTC)))
    '019b76da-a800-7000-8000-000000000000'
    """
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (0x7 << 76) | (0b10 << 62))


def new_api_key() -> str:
    """A fresh API key: the prefix and 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_api_key(key: str) -> bytes:
    """What is stored of a key (32 bytes).

    A plain SHA-256 is enough, and fast enough for every request: the key is 256 random bits, so there is
    nothing that a slow hash would protect from guessing.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def key_hint(key: str) -> str:
    """The part of a key that may be shown again, to tell keys apart."""
    return key[: len(KEY_PREFIX) + 4] + "…"
