"""The API: wires settings, services and routes.

`python -m api` serves it; so does `uvicorn --factory api.main:create_app`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from socket import gethostname

import redis.asyncio
from fastapi import FastAPI, Request, Response
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from api import openapi
from api.addresses import networks
from api.auth import Guard, Guarded, Keys, is_guarded
from api.bell import Bell, producer
from api.body import BodyLimit
from api.compression import Compression
from api.database import Database
from api.edge import Edge, request_id_of
from api.hours import Hours
from api.intake import Intake
from api.metering import Metering
from api.meters import Meters
from api.offered import Offered
from api.pages import router as pages
from api.pages.shell import nothing_here, wants_page
from api.problems import Kind, Problem
from api.pulse import Pulse, listening
from api.quotas import Room, Seconds
from api.rates import Rates
from api.refusals import Refusals
from api.routes import (
    artifacts,
    batches,
    callers,
    control,
    deliveries,
    events,
    files,
    health,
    jobs,
    keys,
    models,
    offers,
    stats,
    webhooks,
)
from api.services import Services
from api.serving import Serving
from api.settings import Settings, load_settings
from api.tasks import TaskIntake
from api.teller import Teller
from api.waiting import Waiting
from domain import logs
from domain.catalogue import Catalogue, CatalogueError, load_catalogue
from domain.languages import load_languages
from domain.limits import load_profiles
from domain.quotas import Quotas
from domain.sealing import Sealer, sealer_of
from domain.tasks import load_task_rules
from storage.store import Storage, default_url
from telemetry import traces

#: Seconds for which anything of ours waits for Redis.
REDIS_PATIENCE_S = 2.0

#: Answers of so many bytes are compressed for clients that can read it.
GZIP_BYTES = 16 * 1024

#: What a page of an origin that is allowed may send, and read.
CORS_REQUEST_HEADERS = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-ID",
]
CORS_ANSWER_HEADERS = [
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Request-ID",
]

DESCRIPTION = """Runs code in a fresh, hardened container and tells what happened.

Every path below `/v1` needs an API key: `Authorization: Bearer rt_…`.
Errors are problem documents (RFC 9457).
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; settings come from the environment unless given."""
    if settings is None:
        settings = load_settings()
    logs.configure(settings.log_level, "api")
    traces.open_traces("retort-api", gethostname())
    services = _services(settings)
    bodies = {files.PATH: settings.max_file_bytes, batches.PATH: settings.max_batch_bytes}
    app = FastAPI(
        title="Retort",
        version=_version(),
        description=DESCRIPTION,
        # The page would load scripts from somewhere else; /openapi.json is for the reader's own tools.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            # Outside of everything, so that also what is refused can be read.
            *_cors(_list(settings.cors_origins)),
            Middleware(Edge, networks(_list(settings.trusted_proxies)), services.meters),
            # Small answers are not worth it; event streams are passed on as they come.
            Middleware(Compression, minimum_size=GZIP_BYTES, compresslevel=5),
            Middleware(Guard, services.keys, services.rates.admit),
            Middleware(BodyLimit, settings.max_body_bytes, bodies),
        ],
        exception_handlers={HTTPException: _plain_error},
        lifespan=_lifespan,
    )
    app.state.services = services
    modules = (
        jobs,
        batches,
        control,
        events,
        artifacts,
        files,
        webhooks,
        deliveries,
        callers,
        keys,
        offers,
        models,
        stats,
        health,
    )
    routers = [module.router for module in modules]
    # Of the routers: the application itself knows only that it includes them.
    routes = app.state.routes = [route for router in routers for route in router.routes]
    below = [route for route in routes if is_guarded(getattr(route, "path", ""))]
    if not below or any(not isinstance(route, Guarded) for route in below):
        raise TypeError("a route below /v1 is not of the class that looks at scopes")
    for router in (*routers, pages):
        app.include_router(router)
    openapi.install(app)
    return app


def _cors(origins: list[str]) -> list[Middleware]:
    """Which pages of other origins may call: none, unless an operator named them."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
            max_age=600,
        ),
    ]


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
    catalogue = _catalogue(settings)
    offered = Offered(database, load_languages(settings.languages))
    intake = Intake(
        offered,
        load_profiles(settings.profiles),
        settings.max_code_bytes,
        TaskIntake(load_task_rules(settings.tasks), catalogue),
        settings.runtime,
    )
    waiting = Waiting(client, database, settings.max_waiters)
    meters = Meters()
    meters.watch("retort_http_waiters", "Clients that wait for a job's end now.", lambda: waiting.count)
    meters.watch("retort_http_streams", "Event streams that are open now.", lambda: waiting.watching)
    database.watched(meters)
    pulse = Pulse()
    meters.registry.register(pulse.watched)
    return Services(
        settings=settings,
        database=database,
        redis=client,
        keys=Keys(database, settings.key_cache_s, Refusals(settings.refusals_per_s)),
        intake=intake,
        offered=offered,
        serving=Serving(database, settings.models_cache_s),
        catalogue=catalogue,
        bell=Bell(client, producer(redis_url)),
        waiting=waiting,
        storage=Storage(settings.storage_url or default_url(settings.state_dir)),
        teller=Teller(client),
        room=Room(database, per_caller=settings.max_queued_per_caller, in_all=settings.max_queued),
        seconds=Seconds(database),
        rates=Rates(client, Quotas(requests_per_s=settings.requests_per_s, burst=settings.burst)),
        sealer=_sealer(settings),
        meters=meters,
        metering=Metering(meters, database, client),
        hours=Hours(database),
        pulse=pulse,
    )


def _catalogue(settings: Settings) -> Catalogue:
    try:
        return load_catalogue(settings.catalogue)
    except CatalogueError as error:
        raise SystemExit(f"cannot start with these settings: RETORT_CATALOGUE: {error}") from None


def _sealer(settings: Settings) -> Sealer | None:
    key = settings.webhook_key
    try:
        return sealer_of(None if key is None else key.get_secret_value(), settings.webhook_key_file)
    except ValueError as error:
        raise SystemExit(f"cannot start with these settings: RETORT_WEBHOOK_KEY: {error}") from None


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    with listening(services.pulse):
        await services.database.warm()
        tasks = [
            asyncio.create_task(services.pulse.run(), name="pulse"),
            asyncio.create_task(services.bell.run(), name="bell"),
            asyncio.create_task(services.offered.run(), name="offered"),
            asyncio.create_task(services.waiting.listen(), name="listen"),
            asyncio.create_task(services.waiting.poll(), name="poll"),
            asyncio.create_task(services.room.look(), name="room"),
            asyncio.create_task(services.keys.note_uses(), name="keys"),
            asyncio.create_task(services.hours.run(), name="hours"),
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
            await asyncio.to_thread(traces.close_traces)


async def _plain_error(request: Request, error: Exception) -> Response:
    """What the router says (no such path, no such method) as a problem document."""
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for this type alone)
    if error.status_code == 404 and wants_page(request):
        return nothing_here(request)
    kinds = {404: Kind.NOT_FOUND, 405: Kind.METHOD_NOT_ALLOWED}
    details = {404: "there is nothing at this path", 405: f"{request.method} is not allowed at this path"}
    headers = dict(error.headers or {})
    if error.status_code == 405 and (allowed := _allowed(request)):
        headers["Allow"] = ", ".join(allowed)
    problem = Problem(
        kinds.get(error.status_code, Kind.BAD_REQUEST),
        details.get(error.status_code, error.detail),
        headers=headers,
    )
    return problem.response(request_id_of(request.scope))


def _allowed(request: Request) -> list[str]:
    """Every method of a path. The router itself names those of the first of its routes alone."""
    routes = [each for each in request.app.state.routes if each.matches(request.scope)[0] != Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


def _list(text: str) -> list[str]:
    """The parts of a setting that has commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _version() -> str:
    try:
        return version("retort")
    except PackageNotFoundError:
        return "0"
