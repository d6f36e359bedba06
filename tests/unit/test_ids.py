"""Ids and keys."""

import hashlib
import time
from uuid import UUID

from domain.ids import KEY_PREFIX, hash_api_key, key_hint, new_api_key, new_id
from domain.logs import redact


def test_ids_sort_by_the_time_they_were_made() -> None:
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_ids_are_of_version_seven_and_of_now() -> None:
    made = new_id()
    assert type(made) is UUID
    assert made.version == 7
    assert abs((made.int >> 80) / 1000 - time.time()) < 60


def test_a_key_is_long_random_and_recognisable() -> None:
    keys = {new_api_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert key.startswith(KEY_PREFIX)
        assert len(key.removeprefix(KEY_PREFIX)) == 43  # 256 bits in base64
        assert key not in redact(f"a log line with {key} in it")


def test_the_hash_of_a_key_is_a_plain_sha256() -> None:
    assert hash_api_key("rt_abc") == hashlib.sha256(b"rt_abc").digest()
    assert hash_api_key("rt_abc") != hash_api_key("rt_abd")
    assert len(hash_api_key("\ud800")) == 32  # whatever a header may hold


def test_a_hint_gives_little_away() -> None:
    key = new_api_key()
    assert key_hint(key) == key[:7] + "…"
