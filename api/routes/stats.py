"""Numbers: `GET /v1/stats` and `GET /v1/usage` for people with a key, `GET /metrics` for Prometheus."""

from uuid import UUID

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api import workers
from api.answers import json_answer
from api.auth import Caller, Guarded, caller_of
from api.csv_answer import csv_answer
from api.documents import money
from api.numbers import since
from api.openapi import DAY, FORMAT_PARAMETER, MOMENT, csv_too, operation, query_parameter
from api.problems import FieldError, Kind, Problem, invalid
from api.queries import one_of, query_of
from api.services import services_of
from api.spans import BUCKETS, FORMATS, Days, Window
from api.stat_schemas import DailyUsage, Stats, UsageRow
from api.statistics import CSV_COLUMNS, DIMENSIONS, LATEST, document, flat, statistics
from domain.quotas import Scope
from domain.usage import USAGE
from domain.worker_statements import LIVE_WORKERS

router = APIRouter()
_guarded = APIRouter(prefix="/v1", route_class=Guarded)


_STATS = [
    query_parameter("since", "Jobs submitted then or later; a day before `until` if not given.", MOMENT),
    query_parameter("until", "Jobs submitted before; now if not given.", MOMENT),
    query_parameter(
        "by",
        f"What the rows are grouped by, with commas between: {', '.join(DIMENSIONS)}.",
        {"type": "string"},
    ),
    query_parameter("bucket", "Into what time is cut.", {"type": "string", "enum": list(BUCKETS)}),
    FORMAT_PARAMETER,
]


@_guarded.get(
    "/stats",
    **csv_too(
        operation(
            "How your jobs did",
            {200: (Stats, "Numbers of your jobs, and sums over the workers that live.")},
            scope=Scope.READ,
            problems=(Kind.INVALID,),
            parameters=_STATS,
        )
    ),
)
async def stats(request: Request) -> Response:
    """Numbers of the caller's jobs, and what live workers report of their sandboxes."""
    services = services_of(request)
    query = query_of(request, "since", "until", "by", "bucket", "format")
    window = Window.of(query)
    by = _by(query.get("by"))
    as_csv = one_of(query, "format", list(FORMATS)) == "csv"
    values = {**since(caller_of(request.scope).id, window.since, window.bucket), "until": window.until}
    grouped = await services.database.slow(statistics(by), values)
    rows = [document(row, by) for row in grouped]
    if as_csv:
        return csv_answer([*by, *CSV_COLUMNS], map(flat, rows))
    (total,) = rows if not by else [document((await services.database.slow(statistics(()), values))[0])]
    latest = (await services.database.slow(LATEST, values))[0]
    live = await services.database.all(LIVE_WORKERS, {})
    return json_answer(
        {
            "since": window.since,
            "until": window.until,
            "bucket": window.bucket,
            "by": by,
            "total": total,
            "rows": rows if by else [],
            "latest": {"jobs": latest.jobs, "avg_total_s": latest.avg_total_s},
            "estimated_monthly_usd": window.monthly(total["cost_usd"]),
            "sandbox": workers.sandboxes(live),
        }
    )


def _by(text: str | None) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else ()
    if not set(names) <= set(DIMENSIONS) or len(set(names)) != len(names):
        raise invalid(FieldError("by", "names what is unknown, or one thing twice", list(DIMENSIONS)))
    return names


@_guarded.get(
    "/usage",
    **csv_too(
        operation(
            "What callers used",
            {200: (DailyUsage, "By caller and UTC day, deleted jobs included.")},
            scope=Scope.READ,
            problems=(Kind.INVALID,),
            parameters=[
                query_parameter("since", "The first day; 29 days before the last if not given.", DAY),
                query_parameter("until", "The last day; today if not given.", DAY),
                query_parameter(
                    "caller_id",
                    "Another caller's, or `all`: for keys with the scope `admin`; else your own.",
                    {"type": "string"},
                ),
                FORMAT_PARAMETER,
            ],
        )
    ),
)
async def usage(request: Request) -> Response:
    """What callers used."""
    services = services_of(request)
    query = query_of(request, "since", "until", "caller_id", "format")
    days = Days.of(query)
    as_csv = one_of(query, "format", list(FORMATS)) == "csv"
    values = {
        "caller_id": _whose(caller_of(request.scope), query.get("caller_id")),
        "since": days.since,
        "until": days.until,
        "since_id": days.since_id(),
    }
    found = [
        {**{name: getattr(row, name) for name in UsageRow.model_fields}, "cost_usd": money(row.cost_usd)}
        for row in await services.database.slow(USAGE, values)
    ]
    if as_csv:
        return csv_answer(list(UsageRow.model_fields), found)
    return json_answer({"since": days.since, "until": days.until, "usage": found})


def _whose(caller: Caller, text: str | None) -> UUID | None:
    """Whose usage is asked for; None: everybody's."""
    if text is None or text == str(caller.id):
        return caller.id
    if Scope.ADMIN not in caller.scopes:
        raise Problem(Kind.FORBIDDEN, f"this API key has not the scope `{Scope.ADMIN}`")
    if text == "all":
        return None
    try:
        return UUID(text)
    except ValueError:
        raise invalid(FieldError("caller_id", "is not an id", ["all"])) from None


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The same for Prometheus, worker by worker, and much more. It tells no secret and needs no key."""
    return Response(await services_of(request).metering.exposition(), media_type=CONTENT_TYPE_LATEST)


router.include_router(_guarded)
