"""Who calls: API keys, checked before anything else of a request is looked at.

A key that was found valid is remembered for `key_cache_s` seconds (2 by default) in this process, so a
revoked key is refused, and a changed tier holds, at the latest that much later. What was found invalid is never
remembered.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.database import Database
from api.problems import unauthorized
from domain.ids import KEY_PREFIX, hash_api_key
from domain.statements import AUTHENTICATE
from domain.states import Runtime

#: Everything below this path needs a key, also what does not exist.
GUARDED = "/v1"
_SCOPE_KEY = "retort.caller"
_MOST_REMEMBERED = 10_000
_LONGEST_KEY = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key speaks for."""

    id: UUID
    name: str
    key_id: UUID
    runtime: Runtime | None = None  # the only tier it may use; None: any


class Keys:
    """Looks keys up."""

    def __init__(self, database: Database, remember_s: float) -> None:
        self._database = database
        self._remember_s = remember_s
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def caller(self, headers: Headers) -> Caller:
        """The caller whose key the request carries.

        Raises:
            Problem: 401.
        """
        given = headers.getlist("authorization")
        if len(given) != 1:
            raise unauthorized("send one header `Authorization: Bearer <API key>`")
        scheme, _, key = given[0].partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key.startswith(KEY_PREFIX) or len(key) > _LONGEST_KEY:
            raise unauthorized("the header must read `Authorization: Bearer <API key>`")
        hashed = hash_api_key(key)
        now = time.monotonic()
        known = self._known.get(hashed)
        if known is not None and known[0] > now:
            return known[1]
        row = await self._database.hot(AUTHENTICATE, {"hash": hashed})
        if row is None:
            self._known.pop(hashed, None)
            raise unauthorized("this API key is not valid")
        bound = None if row.runtime is None else Runtime(row.runtime)
        caller = Caller(id=row.caller_id, name=row.name, key_id=row.key_id, runtime=bound)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        # Counted from before the look-up, so that "at the latest" holds.
        self._known[hashed] = (now + self._remember_s, caller)
        return caller


class Guard:
    """ASGI middleware: nothing below `GUARDED` is reached, and no byte of its body read, without a key."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or raise a 401."""
        if scope["type"] == "http" and is_guarded(scope["path"]):
            scope[_SCOPE_KEY] = await self._keys.caller(Headers(scope=scope))
        await self._app(scope, receive, send)


def is_guarded(path: str) -> bool:
    """Whether a path needs a key."""
    return path == GUARDED or path.startswith(GUARDED + "/")


def caller_of(scope: Scope) -> Caller:
    """The caller of a guarded request."""
    caller = scope[_SCOPE_KEY]
    assert isinstance(caller, Caller)  # noqa: S101 (the guard put it there)
    return caller


def known_caller(scope: Scope) -> Caller | None:
    """The caller, if the guard got so far: for logs."""
    return scope.get(_SCOPE_KEY)
