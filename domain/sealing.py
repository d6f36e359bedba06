"""Secrets that must be used again, and so cannot be hashed, are sealed: AES-256-GCM under keys of the operator.

What is sealed belongs to one place: `about` names it, and it cannot be opened anywhere else. The first key
seals, all of them open, so that a key can be replaced.

>>> sealer = Sealer(["k" * 32])
>>> sealer.open(sealer.seal(b"secret", b"row 1"), b"row 1")
b'secret'
"""

import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Characters that a key has at least; 32 are enough where they are random.
LEAST_KEY = 32
_VERSION = b"\x01"
_NONCE = 12


class Unsealable(Exception):
    """Something was sealed with a key that is not known here, or for another place, or is damaged."""


class Sealer:
    """Seals and opens. Safe to share between threads."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys`: each random text of `LEAST_KEY` characters or more; the first one seals."""
        self._ciphers = [AESGCM(_derived(key)) for key in keys]

    def seal(self, secret: bytes, about: bytes) -> bytes:
        """What may be stored of a secret."""
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + self._ciphers[0].encrypt(nonce, secret, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """The inverse of `seal`.

        Raises:
            Unsealable: no key opens it here.
        """
        if sealed[:1] == _VERSION:
            nonce, rest = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
            for cipher in self._ciphers:
                try:
                    return cipher.decrypt(nonce, rest, about)
                except (InvalidTag, ValueError):
                    continue
        raise Unsealable("no key that is configured opens it")


def _derived(key: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"retort sealing 1").derive(key.encode())


def sealer_of(key: str | None, file: Path | None) -> Sealer | None:
    """A sealer with the key given, or with those in a file, one a line; None where there is neither.

    Raises:
        ValueError: the file cannot be read, or a key is too short; shows no key.
    """
    keys = [] if key is None else [key.strip()]
    if file is not None:
        try:
            keys += [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the key file {file} cannot be read: {type(error).__name__}") from None
        if not keys:
            raise ValueError(f"the key file {file} is empty")
    if any(len(each) < LEAST_KEY for each in keys):
        raise ValueError(f"a key has fewer than {LEAST_KEY} characters")
    return Sealer(keys) if keys else None
