"""The API: wires settings, services and routes.

`python -m api` serves it; so does `uvicorn --factory api.main:create_app`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

import redis.asyncio
from fastapi import FastAPI, Request, Response
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from api import openapi
from api.auth import Guard, Keys
from api.bell import Bell, producer
from api.body import BodyLimit
from api.database import Database
from api.edge import Edge, request_id_of
from api.intake import Intake
from api.problems import Kind, Problem
from api.routes import health, jobs, models, offers
from api.services import Services
from api.settings import Settings, load_settings
from api.waiting import Waiting
from domain import logs
from domain.catalogue import Catalogue, CatalogueError, load_catalogue
from domain.limits import load_languages, load_profiles

#: Seconds for which anything of ours waits for Redis.
REDIS_PATIENCE_S = 2.0

DESCRIPTION = """Runs code in a fresh, hardened container and tells what happened.

Every path below `/v1` needs an API key: `Authorization: Bearer rt_…`.
Errors are problem documents (RFC 9457).
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; settings come from the environment unless given."""
    if settings is None:
        settings = load_settings()
    logs.configure(settings.log_level)
    services = _services(settings)
    app = FastAPI(
        title="Retort",
        version=_version(),
        description=DESCRIPTION,
        # The page would load scripts from somewhere else; /openapi.json is for the reader's own tools.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(Edge),
            Middleware(Guard, services.keys),
            Middleware(BodyLimit, settings.max_body_bytes),
        ],
        exception_handlers={HTTPException: _plain_error},
        lifespan=_lifespan,
    )
    app.state.services = services
    for module in (jobs, offers, models, health):
        app.include_router(module.router)
    openapi.install(app)
    return app


def _services(settings: Settings) -> Services:
    database = Database(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        timeout_s=settings.database_timeout_s,
    )
    redis_url = settings.redis_url.get_secret_value()
    client = redis.asyncio.Redis.from_url(
        redis_url,
        socket_timeout=REDIS_PATIENCE_S,
        socket_connect_timeout=REDIS_PATIENCE_S,
        retry=Retry(NoBackoff(), 1),  # once: a pooled connection may have died since
    )
    return Services(
        settings=settings,
        database=database,
        redis=client,
        keys=Keys(database, settings.key_cache_s),
        intake=Intake(
            load_languages(settings.languages),
            load_profiles(settings.profiles),
            settings.max_code_bytes,
        ),
        catalogue=_catalogue(settings),
        bell=Bell(client, producer(redis_url)),
        waiting=Waiting(client, database, settings.max_waiters),
    )


def _catalogue(settings: Settings) -> Catalogue:
    try:
        return load_catalogue(settings.catalogue)
    except CatalogueError as error:
        raise SystemExit(f"cannot start with these settings: RETORT_CATALOGUE: {error}") from None


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await services.database.warm()
    tasks = [
        asyncio.create_task(services.bell.run(), name="bell"),
        asyncio.create_task(services.waiting.listen(), name="listen"),
        asyncio.create_task(services.waiting.poll(), name="poll"),
    ]
    try:
        yield
    finally:
        services.waiting.close()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await services.bell.flush()
        await services.redis.aclose()
        await services.database.close()


async def _plain_error(request: Request, error: Exception) -> Response:
    """What the router says (no such path, no such method) as a problem document."""
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for this type alone)
    kinds = {404: Kind.NOT_FOUND, 405: Kind.METHOD_NOT_ALLOWED}
    details = {404: "there is nothing at this path", 405: f"{request.method} is not allowed at this path"}
    problem = Problem(
        kinds.get(error.status_code, Kind.BAD_REQUEST),
        details.get(error.status_code, error.detail),
        headers=error.headers,
    )
    return problem.response(request_id_of(request.scope))


def _version() -> str:
    try:
        return version("retort")
    except PackageNotFoundError:
        return "0"
