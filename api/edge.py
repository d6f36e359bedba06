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
from api.meters import METHODS, OTHER, Meters
from api.problems import Kind, Problem
from domain import logs
from telemetry import traces, words
from telemetry.context import CURRENT, Parent, parent_of

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


def _given_ids(scope: Scope) -> tuple[str | None, Parent | None]:
    """The client's own name for its request, and the span that it sends it from."""
    request_id, parent = None, None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and request_id is None:
            request_id = value.decode("ascii") if _REQUEST_ID.fullmatch(value) else None
        elif name == b"traceparent":
            parent = parent_of(value.decode("latin-1"))
    return request_id, parent


def _route_of(scope: Scope) -> str | None:
    """The template of the path, once the router has found it."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None


class Edge:
    """ASGI middleware around everything else of ours."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network] = (), meters: Meters | None = None) -> None:
        self._app = app
        self._trusted = trusted
        self._meters = meters or Meters()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever is raised inside becomes a problem document."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given, parent = _given_ids(scope)
        request_id = given or secrets.token_hex(8)
        scope[_SCOPE_KEY] = request_id
        if not traces.enabled():
            CURRENT.set(None if parent is None else parent.header)
            with logs.ids(request_id=request_id, trace_id=None if parent is None else parent.trace):
                await self._serve(scope, receive, send, request_id)
            return
        method = scope["method"] if scope["method"] in METHODS else OTHER
        with traces.span(method, "server", {words.HTTP_METHOD: method}, parent=parent) as span:
            here = span.parent
            with logs.ids(request_id=request_id, trace_id=None if here is None else here.trace):
                status = await self._serve(scope, receive, send, request_id)
            route, job_id = _route_of(scope), scope.get("retort.job_id")
            span.name(f"{method} {route}" if route else method)
            span.set({words.HTTP_ROUTE: route, words.HTTP_STATUS: status, words.REQUEST_ID: request_id})
            span.set({words.JOB_ID: None if job_id is None else str(job_id)})
            if status >= 500:
                span.fail(str(status))

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> int:
        """The status that was answered; 0 where none was."""
        began = time.perf_counter()
        self._meters.under_way.inc()
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
            took = time.perf_counter() - began
            self._meters.under_way.dec()
            self._meters.answered(scope["method"], _route_of(scope), status, took)
            caller = known_caller(scope)
            access_log.log(
                logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"],  # never the query: people put secrets there
                    "status": status,
                    "ms": round(took * 1000, 1),
                    "caller_id": caller.id if caller else None,
                    "job_id": scope.get("retort.job_id"),
                    "client": scope["retort.client"],
                },
            )
        return status
