"""The outermost layer of ours: request ids, security headers, one log line a request, no leaking error."""

import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import Network, address_of
from api.auth import is_guarded, known_caller
from api.problems import Kind, Problem

log = logging.getLogger(__name__)
access_log = logging.getLogger("api.access")

_SCOPE_KEY = "retort.request_id"
_REQUEST_ID = re.compile(rb"(?!rt_)[A-Za-z0-9._:-]{1,64}")  # an API key is none: ids are shown and logged

_POLICY: Final = b"content-security-policy"
_CLOSED: Final = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
_ALWAYS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    _CLOSED,
    (b"referrer-policy", b"no-referrer"),
]
_NO_STORE: Final = (b"cache-control", b"no-store")

#: Asked every few seconds by whatever watches the service; of interest only to who looks for it.
_PROBES: Final = frozenset({"/healthz", "/readyz"})


def request_id_of(scope: Scope) -> str:
    """The id under which this request appears in logs and problem documents."""
    found: str = scope.get(_SCOPE_KEY, "")
    return found


def _given_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode("ascii") if _REQUEST_ID.fullmatch(value) else None
    return None


class Edge:
    """ASGI middleware around everything else of ours."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network] = ()) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever is raised inside becomes a problem document."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _given_request_id(scope) or secrets.token_hex(8)
        scope[_SCOPE_KEY] = request_id
        scope["retort.client"] = address_of(scope, self._trusted)
        guarded = is_guarded(scope["path"])
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], *_ALWAYS, (b"x-request-id", request_id.encode("ascii"))]
                # A page's own policy stands in place of ours, which allows nothing: browsers would keep both.
                if any(name == _POLICY for name, _ in message["headers"]):
                    headers.remove(_CLOSED)
                # What a route says of caching itself, it says of what may be kept.
                if guarded and all(name != b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                headers += scope.get("retort.headers", ())
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Problem as problem:
            if not status:
                await problem.response(request_id)(scope, receive, send_with_headers)
        except Exception:
            # The one place where a defect of ours ends; its text goes to the log, never to a client.
            log.exception("unhandled error", extra={"request_id": request_id, "path": scope["path"]})
            if status:
                raise  # the answer had begun: only a cut connection can tell the client now
            unknown = Problem(Kind.INTERNAL, "the error was logged under this request_id")
            await unknown.response(request_id)(scope, receive, send_with_headers)
        finally:
            caller = known_caller(scope)
            access_log.log(
                logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"],  # never the query: people put secrets there
                    "status": status,
                    "ms": round((time.perf_counter() - began) * 1000, 1),
                    "caller_id": caller.id if caller else None,
                    "job_id": scope.get("retort.job_id"),
                    "client": scope["retort.client"],
                },
            )
