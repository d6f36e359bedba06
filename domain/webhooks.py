"""Webhooks: which events there are, which addresses may be told of them, how a message is signed.

Messages are those of Standard Webhooks (https://www.standardwebhooks.com), version 1 of its specification.

>>> sign([b"secret"], "msg_1", 1700000000, b"{}")
'v1,A5oIrJxXPB/PkULSoVu0e4khvPiqpF9vljmhkSKg0FI='
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from domain.reach import Reach, literal
from domain.states import State, Verdict

SECRET_PREFIX = "whsec_"  # noqa: S105 (a prefix is none)
SECRET_BYTES = 32

#: What `POST /v1/webhooks/{id}/test` sends, whether or not the webhook asked for it.
TEST_EVENT = "webhook.test"

#: What a webhook may ask for. A name stands for all that begin with it: `job` for every end of a job,
#: `job.finished` for every verdict, `batch` for every end of a batch.
EVENTS: tuple[str, ...] = (
    "job",
    f"job.{State.FINISHED}",
    *(f"job.{State.FINISHED}.{verdict}" for verdict in Verdict),
    f"job.{State.CANCELLED}",
    f"job.{State.BROKEN}",
    "batch",
    f"batch.{State.FINISHED}",
    f"batch.{State.CANCELLED}",
)

#: What a webhook gets that asked for nothing.
USUAL_EVENTS = ("job",)

MOST_URL = 2048
#: ASCII without spaces, and without the backslash, on which parsers disagree.
_VISIBLE = re.compile(r"[!-\[\]-~]+")
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\.?\Z)(?:{_LABEL}\.)*{_LABEL}\.?", re.IGNORECASE)
#: The last part of a name that resolvers take for a number, and so the whole for an address.
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_LOCAL = re.compile(r"(.+\.)?localhost", re.IGNORECASE)


def new_secret() -> bytes:
    """A secret to sign with."""
    return secrets.token_bytes(SECRET_BYTES)


def shown_secret(secret: bytes) -> str:
    """A secret as receivers are given it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def sign(with_secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
        for secret in with_secrets
    )


def check_url(url: str, reach: Reach, *, http: bool) -> None:
    """Refuse what can be told to be wrong without asking anybody; names are looked up when a message is sent.

    Raises:
        ValueError: says what is wrong.
    """
    if not 1 <= len(url) <= MOST_URL or not _VISIBLE.fullmatch(url):
        raise ValueError(f"must be 1 to {MOST_URL} visible ASCII characters without a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ({"https", "http"} if http else {"https"}):
        raise ValueError("must begin with https://")
    if "@" in parts.netloc or parts.fragment or "#" in url:
        raise ValueError("must have no user, no password and no fragment")
    if port is not None and port not in (80, 443) and port < 1024:
        raise ValueError("must have the port 80, 443, or one of 1024 and more")
    address = literal(host)
    if isinstance(address, IPv6Address) != parts.netloc.startswith("["):
        raise ValueError("has no host")
    if address is not None:
        allowed = reach.allows(address)
    elif not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise ValueError("has no host, or one that is not spelled as a name or as an address")
    else:
        local = _LOCAL.fullmatch(host.rstrip("."))
        allowed = not local or any(reach.allows(each) for each in map(literal, ("127.0.0.1", "::1")) if each)
    if not allowed:
        raise ValueError("leads to an address that this service sends nothing to")
