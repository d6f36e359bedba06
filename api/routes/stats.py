"""How the service does: `GET /v1/stats` for people with a key, `GET /metrics` for Prometheus."""

import asyncio

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from api import workers
from api.answers import json_answer
from api.auth import Guarded
from api.openapi import operation
from api.problems import Kind
from api.queries import query_of
from api.schemas import Stats
from api.services import Services, services_of
from domain.bell import ALL_QUEUES
from domain.quotas import Scope
from domain.statements import LIVE_WORKERS

router = APIRouter()
_guarded = APIRouter(prefix="/v1", route_class=Guarded)

_PATIENCE_S = 2.0


@_guarded.get(
    "/stats",
    **operation(
        "How the service does",
        {200: (Stats, "Sums over the workers that live; counts are since each of them started.")},
        scope=Scope.READ,
        problems=(Kind.INVALID,),
    ),
)
async def stats(request: Request) -> Response:
    """What live workers report of their sandboxes."""
    query_of(request)
    live = await services_of(request).database.all(LIVE_WORKERS, {})
    return json_answer({"sandbox": workers.sandboxes(live)})


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The same for Prometheus, worker by worker. It tells no secret and needs no key."""
    services = services_of(request)
    live = await services.database.all(LIVE_WORKERS, {})
    return Response(workers.exposition(live, await depths(services)), media_type=CONTENT_TYPE_LATEST)


async def depths(services: Services) -> dict[str, int]:
    """How many messages wait in each queue; nothing where Redis does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return {queue: int(await services.redis.llen(queue)) for queue in ALL_QUEUES}
    except (RedisError, OSError, TimeoutError):
        return {}


router.include_router(_guarded)
