"""A job's events as they happen."""

from fastapi import APIRouter, Request, Response
from sse_starlette import EventSourceResponse

from api.auth import Guarded, caller_of
from api.events import Progress
from api.openapi import event_stream, operation
from api.problems import FieldError, Kind, Problem, invalid
from api.progress import Place
from api.queries import query_of
from api.reading import NOT_FOUND_DETAIL, job_id_of
from api.services import services_of
from domain.quotas import Scope

router = APIRouter(prefix="/v1", route_class=Guarded)

#: Seconds between two signs of life on a quiet stream.
PING_S = 15
#: Seconds in which a reader must take something, or be cut off; it can resume.
PATIENCE_S = 60

_RESUME = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event that was read; the stream goes on after it.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,6}\\.[0-9]{1,15}\\.[0-9]{1,15}$"},
}


@router.get(
    "/jobs/{job_id}/events",
    **event_stream(
        operation(
            "Follow a job",
            {204: (None, "Everything was read before `Last-Event-ID`: do not come again.")},
            scope=Scope.READ,
            problems=(Kind.NOT_FOUND, Kind.INVALID, Kind.OVERLOADED),
            parameters=[_RESUME],
        ),
        ["state", "attempt", "artifact", "stdout", "stderr", "done"],
        "What happened and happens, each with JSON as its data.",
    ),
)
async def events(request: Request, job_id: str) -> Response:
    """Tells what happened to a job and what happens from now on, until it has ended."""
    query_of(request)
    services = services_of(request)
    caller = caller_of(request.scope)
    found = request.scope["retort.job_id"] = job_id_of(job_id)
    progress = Progress(services, caller, found, _place(request))
    if not await progress.look():
        raise Problem(Kind.NOT_FOUND, NOT_FOUND_DETAIL)
    if services.waiting.watching >= services.settings.max_streams:
        raise Problem(
            Kind.OVERLOADED,
            "too many event streams are open; come again later, or poll the job",
            headers={"Retry-After": "5"},
        )
    if progress.ended:
        return Response(status_code=204)
    return EventSourceResponse(
        progress.follow(services.waiting.watch(found)),
        ping=PING_S,
        send_timeout=PATIENCE_S,
        headers={"Cache-Control": "no-store"},
    )


def _place(request: Request) -> Place:
    given = request.headers.get("last-event-id")
    if given is None:
        return Place()
    try:
        return Place.parse(given)
    except ValueError:
        raise invalid(FieldError("Last-Event-ID", "is not an id that this service gave")) from None
