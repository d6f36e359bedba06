"""Numbers: how long runs take, how they end, what models cost, and what the service is doing."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api import classes, workers
from api.auth import caller_of
from api.hours import HOUR, hour_of
from api.numbers import PERCENTILES
from api.pages import charts, show
from api.pages.kept import Kept
from api.pages.shell import PageRoute, page
from api.problems import FieldError, invalid
from api.services import Services, services_of
from api.sums import Stage, Sums
from domain.worker_statements import LIVE_WORKERS

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: The times that can be looked at: how many units of what.
WINDOWS = {"day": (24, HOUR), "week": (7, timedelta(days=1)), "month": (30, timedelta(days=1))}
_TONES = ("good", "check", "limit", "bad", "busy", "quiet")
#: What times are shown of; the first is the whole.
_STAGES: dict[Stage, str] = {
    "total": "whole",
    "waited": "waiting for the first step",
    "answer": "model answer",
    "start": "sandbox start",
    "run": "run",
}
_found: Kept[dict[str, Any]] = Kept()
#: In the order in which models get colours; further ones share the last.
_MODEL_TONES = ("busy", "check", "good", "limit", "bad", "quiet")


@router.get("/numbers")
async def show_numbers(request: Request) -> Response:
    """Shows the numbers of the caller's own runs over a day, a week or a month."""
    services = services_of(request)
    caller = caller_of(request.scope)
    window = request.query_params.get("window", "day")
    if window not in WINDOWS:
        raise invalid(FieldError("window", "is not one of the allowed values", list(WINDOWS)))
    found = await _found.get((caller.id, window), lambda: _of_caller(services, caller.id, window))
    values = {"window": window, "windows": list(WINDOWS), **found, "service": await _service(services)}
    return page(request, "numbers.html", values)


async def _of_caller(services: Services, caller_id: UUID, window: str) -> dict[str, Any]:
    count, unit = WINDOWS[window]
    first = _first(count, unit)
    hours = await services.hours.read(caller_id, first)
    # Drawing takes a while, in which others want to be served.
    return await asyncio.to_thread(_shown, hours, [first + unit * number for number in range(count)], unit)


def _first(count: int, unit: timedelta) -> datetime:
    now = hour_of(datetime.now(UTC))
    return (now if unit == HOUR else now.replace(hour=0)) - unit * (count - 1)


def _shown(hours: dict[datetime, Sums], times: Sequence[datetime], unit: timedelta) -> dict[str, Any]:
    parts = [Sums() for _ in times]
    whole = Sums()
    for hour in sorted(hours):
        # The hour may have ended since the times were made.
        parts[min(len(parts) - 1, (hour - times[0]) // unit)].add(hours[hour])
    for part in parts:
        whole.add(part)
    labels = [f"{time:%H:%M}" if unit == HOUR else f"{time:%m-%d}" for time in times]
    return {
        "labels": labels,
        "runs": _runs(labels, parts, whole),
        "latency": _latency(labels, parts),
        "stages": _stages(whole),
        "cost": _cost(labels, parts, whole),
    }


def _runs(labels: Sequence[str], parts: Sequence[Sums], whole: Sums) -> dict[str, Any]:
    order = sorted(whole.words, key=lambda word: (_TONES.index(show.tone(word)), word))
    series = {word: [part.words[word] for part in parts] for word in order}
    picture = charts.bars(labels, series, [show.tone(word) for word in order], every=_every(labels))
    return {"picture": picture, "series": series, "sums": {word: whole.words[word] for word in order}}


def _latency(labels: Sequence[str], parts: Sequence[Sums]) -> dict[str, Any]:
    names = [f"p{share * 100:g}" for share in PERCENTILES]
    none: list[float | None] = [None] * len(names)
    found = [classes.percentiles(part.times.get("total", {}), PERCENTILES) or none for part in parts]
    series = {name: [each[index] for each in found] for index, name in enumerate(names)}
    tones = ("good", "limit", "bad")
    picture = charts.lines(labels, series, tones, formatter=show.seconds, every=_every(labels))
    return {"picture": picture, "series": series, "tones": dict(zip(names, tones, strict=True))}


def _stages(whole: Sums) -> list[dict[str, Any]]:
    """The whole, and where it went; what never happened is left out."""
    return [
        {
            "stage": title,
            "times": whole.times[stage].total(),
            "seconds": classes.percentiles(whole.times[stage], PERCENTILES),
        }
        for stage, title in _STAGES.items()
        if stage in whole.times
    ]


def _cost(labels: Sequence[str], parts: Sequence[Sums], whole: Sums) -> dict[str, Any]:
    models = dict(sorted(whole.models.items()))
    by_time = {
        model: [part.models[model].cost or 0 if model in part.models else 0 for part in parts]
        for model in models
    }
    tones = [_MODEL_TONES[min(index, len(_MODEL_TONES) - 1)] for index, _ in enumerate(models)]
    series = {model: [float(cost) for cost in each] for model, each in by_time.items()}
    picture = charts.bars(
        labels, series, tones, formatter=lambda value: show.money(str(value)), every=_every(labels)
    )
    return {
        "picture": picture,
        "models": models,
        "by_time": by_time,
        "tones": dict(zip(models, tones, strict=True)),
    }


def _every(labels: Sequence[str]) -> int:
    """Of how many labels one is written."""
    return max(1, len(labels) // 8)


async def _service(services: Services) -> dict[str, Any]:
    """What live workers report of their sandboxes, and what waits in the queues."""
    live = await services.database.all(LIVE_WORKERS, {})
    return {"sandboxes": workers.sandboxes(live), "queues": await services.metering.depths()}
