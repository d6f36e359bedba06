"""Signing in and out."""

from fastapi import APIRouter, Request, Response

from api.pages.sessions import Sessions, set_cookie
from api.pages.shell import PageRoute, PublicRoute, form_of, go, own_path, page, visit
from api.problems import Kind, Problem, unauthorized
from api.services import services_of
from domain.ids import KEY_PREFIX, hash_api_key

router = APIRouter(include_in_schema=False, route_class=PublicRoute)
inside = APIRouter(include_in_schema=False, route_class=PageRoute)

_LONGEST_KEY = 128


@router.get("/sign-in")
async def ask(request: Request) -> Response:
    """Asks for an API key."""
    following = own_path(request.query_params.get("next", ""))
    return page(request, "sign_in.html", {"next": following, "wrong": None})


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Opens a session, under an id that nobody knew before."""
    services = services_of(request)
    form = await form_of(request)
    key, following = form.get("key", "").strip(), own_path(form.get("next", ""))
    hashed = hash_api_key(key)
    try:
        if not key.startswith(KEY_PREFIX) or len(key) > _LONGEST_KEY:
            raise unauthorized("not a key")
        await services.keys.of_hash(hashed, request.scope["retort.client"])
    except Problem as problem:
        if problem.kind is not Kind.UNAUTHORIZED:
            raise
        values = {"next": following, "wrong": "This API key is not valid."}
        return page(request, "sign_in.html", values, 401)
    session = await Sessions(services.redis).open(hashed)
    response = go(following)
    set_cookie(request, response, session)
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Ends the session."""
    await Sessions(services_of(request).redis).close(visit(request))
    return go("/sign-in")


@inside.get("/")
async def start(request: Request) -> Response:
    """The first page."""
    return go("/runs")


router.include_router(inside)
