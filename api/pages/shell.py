"""What every page has: its frame, its headers, a person who is signed in, errors as pages."""

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from fastapi import Request, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from api.auth import Caller
from api.edge import request_id_of
from api.pages import show, static
from api.pages.sessions import Sessions, Visit, set_cookie, visit_of
from api.problems import FieldError, Problem
from api.services import services_of
from domain.statements import AUTHENTICATE

#: Scripts and styles from our own files alone; nothing inline, no frames, no foreign host.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "HX-Request",
}

_FOLDER = str(files("api.pages") / "templates")
_OURS = re.compile(r"/[a-z][\w/-]*(\?[\w=&%.+-]*)?", re.ASCII)
_VISIT = "retort.visit"
_CALLER = "retort.caller"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Refused(Exception):
    """A request that no page of ours makes."""

    def __init__(self, detail: str, status: int = 403) -> None:
        super().__init__(detail)
        self.status = status


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= show.FILTERS
    environment.globals |= {"asset": static.path_of, **show.GLOBALS}
    return environment


_templates = _environment()


def page(request: Request, name: str, values: Mapping[str, Any], status: int = 200) -> Response:
    """A page from a template; what HTMX asks for is a part of one."""
    caller = request.scope.get(_CALLER)
    body = _templates.get_template(name).render(
        {
            "caller": caller if isinstance(caller, Caller) else None,
            "token": visit(request).token,
            "here": request.url.path,
            **values,
        },
    )
    response = HTMLResponse(body, status_code=status, headers=HEADERS)
    if visit(request).fresh:
        set_cookie(request, response, visit(request))
    return response


def is_part(request: Request) -> bool:
    """Whether HTMX asks, to put the answer into the page that is there."""
    return request.headers.get("hx-request") == "true"


def visit(request: Request) -> Visit:
    """The visit of a request, made once."""
    found = request.scope.get(_VISIT)
    if not isinstance(found, Visit):
        found = request.scope[_VISIT] = visit_of(request)
    return found


def go(path: str) -> Response:
    """To another page of ours, after a form or without one."""
    return RedirectResponse(path, status_code=303, headers=HEADERS)


def own_path(text: str) -> str:
    """A path of ours that was given to us, or the list of runs: never another site."""
    return text if _OURS.fullmatch(text) else "/runs"


class PublicRoute(APIRoute):
    """A page that needs nobody to be signed in. Forms must carry the token; errors become pages."""

    def get_route_handler(self) -> Handler:
        """The handler behind these checks."""
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            try:
                if request.method == "POST":
                    await _check_form(request)
                answer = await self.admit(request)
                return await handler(request) if answer is None else answer
            except Problem as problem:
                answer = _error(
                    request, problem.kind.status, problem.kind.title, problem.detail, problem.errors
                )
                answer.headers.update(problem.headers)
                return answer
            except Refused as refused:
                return _error(request, refused.status, "This was not accepted", str(refused))

        return checked

    async def admit(self, request: Request) -> Response | None:
        """Let a request pass, or answer in place of the handler."""
        return None


class PageRoute(PublicRoute):
    """A page for who is signed in; others are asked to sign in first."""

    async def admit(self, request: Request) -> Response | None:
        """Find the caller whose key the session was opened with."""
        services = services_of(request)
        sessions = Sessions(services.redis)
        key_hash = await sessions.key_of(visit(request))
        row = None if key_hash is None else await services.database.hot(AUTHENTICATE, {"hash": key_hash})
        if row is not None:
            request.scope[_CALLER] = Caller(id=row.caller_id, name=row.name, key_id=row.key_id)
            return None
        if key_hash is not None:  # the key was revoked
            await sessions.close(visit(request))
        if is_part(request):
            return Response(status_code=401, headers={**HEADERS, "HX-Refresh": "true"})
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        back = "" if request.method != "GET" or wanted in ("/", "/runs") else f"?next={quote(wanted, safe='')}"
        return go(f"/sign-in{back}")


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; of a field that comes twice, the last."""
    found: dict[str, str] | None = request.scope.get("retort.form")
    if found is None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Refused("a form of these pages is sent as application/x-www-form-urlencoded", 415)
        try:
            text = (await request.body()).decode()
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=200, errors="strict")
        except ValueError:
            raise Refused("this is not a form of these pages", 400) from None
        # Browsers end lines in a text area with both characters.
        found = request.scope["retort.form"] = {name: value.replace("\r\n", "\n") for name, value in pairs}
    return found


async def _check_form(request: Request) -> None:
    """That one of our own pages sends this form, and no other site makes a browser do so."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused("this form came from another site")
    form = await form_of(request)
    if visit(request).fresh or not visit(request).sent(form.get("token", "")):
        raise Refused("the form is too old or not ours; go back, load the page again, and send it once more")


def _error(
    request: Request, status: int, title: str, detail: str, errors: Iterable[FieldError] = ()
) -> Response:
    request_id = request_id_of(request.scope)
    values = {"title": title, "detail": detail, "errors": errors, "status": status, "request_id": request_id}
    return page(request, "error.html", values, status)
