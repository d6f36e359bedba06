"""Sessions of signed-in people: a random id in a cookie, its hash in Redis with the hash of the API key.

Neither the id nor the key can be read from Redis. The key is looked up again with each request, so revoking it
ends its sessions, too. A session ends twelve hours after its last use, or when Redis forgets it.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from api.problems import unavailable

#: Seconds without use after which a session ends.
IDLE_S = 12 * 3600

_COOKIE = "retort_session"
_LONGEST_ID = 64


@dataclass(frozen=True, slots=True)
class Visit:
    """Whoever sends a request: the id in its cookie, which may be of a session or merely fresh."""

    id: str
    fresh: bool  # the browser has no cookie yet

    @property
    def token(self) -> str:
        """What forms must send back: it follows from the id, which no other site can read."""
        return hmac.new(self.id.encode(), b"retort form token", hashlib.sha256).hexdigest()

    def sent(self, token: str) -> bool:
        """Whether this is our token."""
        return hmac.compare_digest(self.token.encode(), token.encode("utf-8", "replace"))


def new_visit() -> Visit:
    """A visit with 256 random bits."""
    return Visit(secrets.token_urlsafe(32), fresh=True)


def visit_of(request: Request) -> Visit:
    """The visit that a request belongs to."""
    given = request.cookies.get(_cookie(request), "")
    if 32 <= len(given) <= _LONGEST_ID and given.isascii():
        return Visit(given, fresh=False)
    return new_visit()


def set_cookie(request: Request, response: Response, visit: Visit) -> None:
    """Let the browser keep the id, out of reach for scripts and other sites."""
    response.set_cookie(
        _cookie(request), visit.id, httponly=True, samesite="strict", secure=_secure(request), path="/"
    )


def _secure(request: Request) -> bool:
    # A proxy in front tells of TLS; whoever lies here harms the own cookie alone.
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"


def _cookie(request: Request) -> str:
    # The prefix makes browsers refuse the cookie unless it is Secure and of this very host.
    return f"__Host-{_COOKIE}" if _secure(request) else _COOKIE


class Sessions:
    """Which visits are signed in, and with which key."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def open(self, key_hash: bytes) -> Visit:
        """A new session for a key; always under a new id.

        Raises:
            Problem: 503.
        """
        visit = new_visit()
        try:
            await self._redis.set(_name(visit), key_hash, ex=IDLE_S)
        except (RedisError, OSError, TimeoutError) as error:
            raise _away() from error
        return visit

    async def key_of(self, visit: Visit) -> bytes | None:
        """The hash of the key that a visit is signed in with; None where it is not.

        Raises:
            Problem: 503.
        """
        if visit.fresh:
            return None
        try:
            found: Any = await self._redis.getex(_name(visit), ex=IDLE_S)
        except (RedisError, OSError, TimeoutError) as error:
            raise _away() from error
        return None if found is None else bytes(found)

    async def close(self, visit: Visit) -> None:
        """End a session.

        Raises:
            Problem: 503.
        """
        try:
            await self._redis.delete(_name(visit))
        except (RedisError, OSError, TimeoutError) as error:
            raise _away() from error


def _name(visit: Visit) -> str:
    return "retort:session:" + hashlib.sha256(visit.id.encode()).hexdigest()


def _away() -> Exception:
    return unavailable("sessions are kept in Redis, which does not answer; try again")
