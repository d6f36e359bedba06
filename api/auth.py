"""Who calls: API keys, checked before anything else of a request is looked at.

A key that was found valid is remembered for `key_cache_s` seconds (2 by default) in this process, so a
revoked key is refused, and a changed tier holds, at the latest that much later. What was found invalid is never
remembered.

What a key is good for is asked where the route is known: `Guarded` is the class of every route below /v1,
and refuses to serve one that does not say which scope it needs.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.database import Database
from api.problems import Kind, Problem, unauthorized
from api.refusals import Refusals
from domain.accounts import AUTHENTICATE, NOTE_USE
from domain.ids import KEY_PREFIX, hash_api_key
from domain.quotas import Quotas
from domain.quotas import Scope as KeyScope
from domain.states import Runtime

#: Everything below this path needs a key, also what does not exist.
GUARDED = "/v1"
_SCOPE_KEY = "retort.caller"
_MOST_REMEMBERED = 10_000
_LONGEST_KEY = 128

#: Seconds between two looks whether the use of keys is to be noted.
NOTE_EVERY_S = 5.0

#: Where an operation of the OpenAPI document says which scope it needs.
SCOPE_FIELD = "x-scope"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key speaks for."""

    id: UUID
    name: str
    key_id: UUID
    runtime: Runtime | None = None  # the only tier it may use; None: any
    scopes: frozenset[str] = frozenset()
    quotas: Quotas = field(default_factory=Quotas)


class Keys:
    """Looks keys up."""

    def __init__(self, database: Database, remember_s: float, refusals: Refusals) -> None:
        self._database = database
        self._remember_s = remember_s
        self._refusals = refusals
        self._known: dict[bytes, tuple[float, Caller]] = {}
        self._unnoted: set[UUID] = set()

    async def caller(self, headers: Headers, address: str) -> Caller:
        """The caller whose key a request from `address` carries.

        Raises:
            Problem: 401, or 429 where too many keys that are not valid came from there.
        """
        given = headers.getlist("authorization")
        if len(given) != 1:
            raise unauthorized("send one header `Authorization: Bearer <API key>`")
        scheme, _, key = given[0].partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key.startswith(KEY_PREFIX) or len(key) > _LONGEST_KEY:
            raise unauthorized("the header must read `Authorization: Bearer <API key>`")
        return await self.of_hash(hash_api_key(key), address)

    async def of_hash(self, hashed: bytes, address: str) -> Caller:
        """The caller with the key that has this hash; `address`: who asks.

        Raises:
            Problem: as `caller`.
        """
        now = time.monotonic()
        known = self._known.get(hashed)
        if known is not None and known[0] > now:
            return known[1]
        self._refusals.check(address)
        row = await self._database.hot(AUTHENTICATE, {"hash": hashed})
        if row is None:
            self._known.pop(hashed, None)
            self._refusals.note(address)
            raise unauthorized("this API key is not valid")
        caller = Caller(
            id=row.caller_id,
            name=row.name,
            key_id=row.key_id,
            runtime=None if row.runtime is None else Runtime(row.runtime),
            scopes=frozenset(row.scopes),
            quotas=Quotas.of(row.quotas, row.most_running),
        )
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        left_s = self._remember_s if row.left_s is None else min(self._remember_s, float(row.left_s))
        # Counted from before the look-up, so that "at the latest" holds.
        self._known[hashed] = (now + left_s, caller)
        if row.unnoted:
            self._unnoted.add(row.key_id)
        return caller

    async def note_uses(self) -> None:
        """Write down for ever which keys are in use, a few at a time; a task of its own."""
        while True:
            await asyncio.sleep(NOTE_EVERY_S)
            used, self._unnoted = self._unnoted, set()
            if used:
                try:
                    await self._database.run(NOTE_USE, {"ids": list(used)})
                except Problem:
                    continue  # logged where it was raised; the next request of each key notes it again


Admit = Callable[[Caller], Coroutine[Any, Any, list[tuple[bytes, bytes]]]]


class Guard:
    """ASGI middleware: nothing below `GUARDED` is reached, and no byte of its body read, without a key.

    `admit` is asked once for each request of a valid key; the headers it gives go into the answer.
    """

    def __init__(self, app: ASGIApp, keys: Keys, admit: Admit) -> None:
        self._app = app
        self._keys = keys
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or raise a 401 or a 429."""
        if scope["type"] == "http" and is_guarded(scope["path"]):
            caller = scope[_SCOPE_KEY] = await self._keys.caller(Headers(scope=scope), scope["retort.client"])
            scope["retort.headers"] = await self._admit(caller)
        await self._app(scope, receive, send)


class Guarded(APIRoute):
    """A route below `GUARDED`: it is reached only with a key that has the scope it says it needs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind a look at the caller's scopes.

        Raises:
            TypeError: the route does not say which scope it needs.
        """
        needed = (self.openapi_extra or {}).get(SCOPE_FIELD)
        if needed not in set(KeyScope):
            raise TypeError(f"{self.path} does not say which scope it needs")
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            if needed not in caller_of(request.scope).scopes:
                raise Problem(Kind.FORBIDDEN, f"this API key has not the scope `{needed}`")
            return await handler(request)

        return guarded


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
