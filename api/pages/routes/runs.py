"""The list of runs."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from sqlalchemy import Row, Select, func

from api import documents
from api.auth import Caller, caller_of
from api.hours import HOUR, hour_of
from api.pages import charts, show
from api.pages.kept import Kept
from api.pages.shell import PageRoute, is_part, page
from api.paging import Page
from api.problems import FieldError, invalid
from api.services import Services, services_of
from domain.states import State, Verdict
from domain.tables.job import jobs

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_KINDS = ("code", "task")
_TONES = ("good", "check", "limit", "bad", "busy", "quiet")
_days: Kept[dict[str, Any]] = Kept()


@router.get("/runs")
async def runs(request: Request) -> Response:
    """Lists runs, newest first. The first page keeps itself up to date."""
    services = services_of(request)
    caller = caller_of(request.scope)
    asked = {name: value for name, value in request.query_params.multi_items() if value}
    kind = asked.pop("kind", None)
    if kind is not None and kind not in _KINDS:
        raise invalid(FieldError("kind", "is not one of the allowed values", list(_KINDS)))
    wanted = Page.of(_narrowed(request, asked), services.offered.languages)
    # The same statement as of GET /v1/jobs, with what a line of the list shows beside.
    of_kind = () if kind is None else (jobs.c[kind].is_not(None),)
    statement = with_beginning(wanted.statement(caller.id, *of_kind))
    found = await services.database.all(statement, {})
    shown = {name: value for name, value in {**wanted.filters, "kind": kind}.items() if value}
    values = {
        "runs": lines(found[: wanted.limit]),
        "following": _following(wanted, found, shown),
        "live": wanted.cursor is None,
        "filters": shown,
        "own": _path(shown, wanted.cursor),
    }
    if is_part(request):
        return page(request, "_runs.html", values)
    choices = {
        "states": [state.value for state in State],
        "verdicts": [verdict.value for verdict in Verdict],
        "languages": sorted(services.offered.languages),
        "kinds": _KINDS,
        "models": sorted(services.catalogue.models),
    }
    return page(request, "runs.html", {**values, **choices, "day": await _last_day(services, caller)})


def _narrowed(request: Request, asked: Mapping[str, str]) -> Request:
    """The same request without the fields of the form that were left empty."""
    return Request({**request.scope, "query_string": urlencode(asked).encode()})


def with_beginning(statement: Select[Any]) -> Select[Any]:
    """The same jobs, with what a line of the list shows beside."""
    return statement.add_columns(
        func.left(func.coalesce(jobs.c.task, jobs.c.code), 200).label("beginning"),
        jobs.c.task.is_not(None).label("is_task"),
    )


def lines(rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Jobs as lines of a list, from rows of such a statement."""
    return [
        {
            **documents.summary(row),
            "beginning": " ".join(row.beginning.split())[:140],
            "kind": "task" if row.is_task else "code",
        }
        for row in rows
    ]


def _following(wanted: Page, rows: Sequence[Row[Any]], shown: Mapping[str, str]) -> str | None:
    cursor = wanted.document(rows)["next_cursor"]
    return None if cursor is None else _path(shown, cursor)


def _path(shown: Mapping[str, str], cursor: str | None) -> str:
    query = {**shown, **({} if cursor is None else {"cursor": cursor})}
    return f"/runs?{urlencode(query)}" if query else "/runs"


async def _last_day(services: Services, caller: Caller) -> dict[str, Any]:
    """Runs of each of the last 24 hours by tone: as a picture, and in sum."""

    async def make() -> dict[str, Any]:
        first = hour_of(datetime.now(UTC)) - 23 * HOUR
        counts = {name: [0] * 24 for name in _TONES}
        for hour, words in (await services.hours.words(caller.id, first)).items():
            for word, count in words.items():
                counts[show.tone(word)][min(23, (hour - first) // HOUR)] += count
        sums = {name: sum(values) for name, values in counts.items()}
        return {
            "picture": await asyncio.to_thread(charts.spark, counts, _TONES),
            "sums": {name: count for name, count in sums.items() if count},
            "count": sum(sums.values()),
        }

    return await _days.get(caller.id, make)
