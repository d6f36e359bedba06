"""Whether the process lives, and whether the service works. Both are open, so neither tells a secret."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from api import workers
from api.answers import json_answer
from api.health_schemas import Health, Readiness
from api.openapi import operation
from api.problems import Problem
from api.services import Services, services_of
from api.stalled import stalled
from domain.worker_statements import LIVE_WORKERS

router = APIRouter()

_PATIENCE_S = 2.0
_MOST_REASONS = 5


@router.get("/healthz", **operation("Is the process alive", {200: (Health, "It answers.")}))
async def healthz() -> Response:
    """Answers without touching anything: for a supervisor."""
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    **operation(
        "Will jobs be run",
        {
            200: (Readiness, "Database, Redis and at least one worker are ready, and programs are taken up."),
            503: (Readiness, "Something is missing; `why_not` says what."),
        },
    ),
)
async def readyz(request: Request) -> Response:
    """Asks everything that a job needs: for a load balancer, and for people."""
    services = services_of(request)
    (database, working, tiers, live), redis = await asyncio.gather(_database(services), _redis(services))
    progress = _part(await stalled(services.database, live, services.settings.ready_stall_s))
    parts = {"database": database, "redis": redis, "workers": working, "progress": progress}
    ready = all(part["ready"] for part in parts.values())
    document = {"ready": ready, **parts, "tiers": tiers, "missing_languages": services.offered.missing()}
    return json_answer(document, 200 if ready else 503)


def _part(why_not: str | None) -> dict[str, Any]:
    return {"ready": why_not is None, "why_not": why_not}


async def _database(
    services: Services,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, bool], Sequence[Any]]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            live = await services.database.all(LIVE_WORKERS, {})
            services.offered.take(live)
    except (Problem, TimeoutError):
        return _part("does not answer"), _part("not known without the database"), {}, ()
    if not live:
        return _part(None), _part("no worker has reported lately; is one running?"), {}, ()
    tiers = workers.tiers(live)
    if any(worker.ready and _runs_programs(worker.facts) for worker in live):
        return _part(None), _part(None), tiers, live
    reasons = sorted({worker.why_not or "not ready" for worker in live if _runs_programs(worker.facts)})
    if not reasons:
        reasons = ["no worker that runs programs has reported lately; is one running?"]
    return _part(None), _part("; ".join(reasons[:_MOST_REASONS])), tiers, live


def _runs_programs(facts: Mapping[str, Any]) -> bool:
    """Whether a worker does: without one no job ends, with it at least code runs."""
    return "sandbox" in facts.get("roles", ("sandbox",))


async def _redis(services: Services) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await services.redis.ping()
    except (RedisError, OSError, TimeoutError):
        return _part("does not answer")
    return _part(None)
