"""What every page has: its frame, its headers, a person who is signed in, errors as pages."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, RedirectResponse

from api.auth import SCOPE_FIELD, Caller, is_guarded
from api.edge import request_id_of
from api.pages import show, static
from api.pages.sessions import Sessions, Visit, set_cookie, visit_of
from api.problems import FieldError, Kind, Problem
from api.services import services_of
from domain.quotas import Scope

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
#: Kinds of forms, and the most that one may have.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
MOST_FIELDS = 200
MOST_FILES = 100

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
            "may": frozenset() if not isinstance(caller, Caller) else caller.scopes,
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
    """A page for who is signed in; others are asked to sign in first. `needs` names the scope of its key."""

    async def admit(self, request: Request) -> Response | None:
        """Find the caller whose key the session was opened with.

        Raises:
            Problem: 403 the key is not good for this, 429 the caller sends too many requests.
        """
        services = services_of(request)
        sessions = Sessions(services.redis)
        key_hash = await sessions.key_of(visit(request))
        if key_hash is None:
            return self._ask_to_sign_in(request)
        try:
            caller = await services.keys.of_hash(key_hash, request.scope["retort.client"])
        except Problem as problem:
            if problem.kind is not Kind.UNAUTHORIZED:
                raise
            await sessions.close(visit(request))  # the key has ended
            return self._ask_to_sign_in(request)
        request.scope[_CALLER] = caller
        request.scope["retort.headers"] = await services.rates.admit(caller)
        scope = (self.openapi_extra or {}).get(SCOPE_FIELD, Scope.READ)
        if scope not in caller.scopes:
            raise Problem(Kind.FORBIDDEN, f"the API key of this session has not the scope `{scope}`")
        return None

    def _ask_to_sign_in(self, request: Request) -> Response:
        if is_part(request):
            return Response(status_code=401, headers={**HEADERS, "HX-Refresh": "true"})
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        if visit(request).fresh and request.headers.get("sec-fetch-site") == "cross-site":
            # A link on another site: the browser kept the cookie back. Coming from here, it sends it.
            return HTMLResponse("", headers={**HEADERS, "Refresh": f"0;url={own_path(wanted)}"})
        back = "" if request.method != "GET" or wanted in ("/", "/runs") else f"?next={quote(wanted, safe='')}"
        return go(f"/sign-in{back}")


def needs(scope: Scope) -> dict[str, Any]:
    """What a page says of the scope that it needs, if that is not `read`; for `openapi_extra`."""
    return {SCOPE_FIELD: scope}


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form without its files; of a field that comes twice, the last.

    Raises:
        Problem: 408, 413.
        Refused: it is no form.
    """
    # Browsers end lines in a text area with both characters.
    return {
        name: value.replace("\r\n", "\n")
        for name, value in (await _parsed(request)).multi_items()
        if isinstance(value, str)
    }


async def files_of(request: Request, name: str) -> list[tuple[str, bytes]]:
    """The files that came in a field of a form: their names and contents."""
    found = [value for value in (await _parsed(request)).getlist(name) if not isinstance(value, str)]
    # A field of a browser in which nothing was chosen sends a file without a name.
    return [(file.filename, await file.read()) for file in found if file.filename]


async def _parsed(request: Request) -> FormData:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _FORMS:
        raise Refused(f"a form of these pages is sent as {' or '.join(_FORMS)}", 415)
    seconds = services_of(request).settings.body_timeout_s
    try:
        async with asyncio.timeout(seconds):
            return await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS)
    except TimeoutError:
        raise Problem(Kind.BODY_TIMEOUT, f"the form did not arrive within {seconds:g} s") from None
    except (HTTPException, MultiPartException):
        raise Refused("this is not a form of these pages", 400) from None
    except ClientDisconnect:
        raise Refused("the connection ended before the form did", 400) from None


async def _check_form(request: Request) -> None:
    """That one of our own pages sends this form, and no other site makes a browser do so."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused("this form came from another site")
    form = await form_of(request)
    if visit(request).fresh or not visit(request).sent(form.get("token", "")):
        raise Refused("the form is too old or not ours; go back, load the page again, and send it once more")


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks, and for none of the API's paths."""
    return not is_guarded(request.url.path) and "text/html" in request.headers.get("accept", "")


def nothing_here(request: Request) -> Response:
    """The answer to a path that is none."""
    return _error(request, 404, Kind.NOT_FOUND.title, "There is nothing at this address.")


def _error(
    request: Request, status: int, title: str, detail: str, errors: Iterable[FieldError] = ()
) -> Response:
    request_id = request_id_of(request.scope)
    values = {"title": title, "detail": detail, "errors": errors, "status": status, "request_id": request_id}
    return page(request, "error.html", values, status)
