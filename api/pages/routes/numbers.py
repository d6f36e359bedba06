"""Numbers: how long runs take, how they end, what models cost, and what the service is doing."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from fastapi import APIRouter, Request, Response

from api import classes, numbers, workers
from api.auth import Caller, caller_of
from api.pages import charts, show
from api.pages.kept import Kept
from api.pages.shell import PageRoute, page
from api.problems import FieldError, invalid
from api.services import Services, services_of
from domain.statements import LIVE_WORKERS

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: The times that can be looked at: how many units of what.
WINDOWS = {"day": (24, "hour"), "week": (7, "day"), "month": (30, "day")}
_STEP = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_TONES = ("good", "check", "limit", "bad", "busy", "quiet")
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
    found = _found.get((caller.id, window)) or _found.put(
        (caller.id, window), await _of_caller(services, caller, window)
    )
    values = {"window": window, "windows": list(WINDOWS), **found, "service": await _service(services)}
    return page(request, "numbers.html", values)


async def _of_caller(services: Services, caller: Caller, window: str) -> dict[str, Any]:
    count, unit = WINDOWS[window]
    times = _times(count, unit)
    values = numbers.since(caller.id, times[0], unit)
    database = services.database
    counts, tried, answers, cost = await asyncio.gather(
        database.slow(numbers.COUNTS, values),
        database.slow(numbers.RUNS, values),
        database.all(numbers.ANSWERS, values),
        database.all(numbers.COST, values),
    )
    labels = [f"{time:%H:%M}" if unit == "hour" else f"{time:%m-%d}" for time in times]
    return {
        "labels": labels,
        "runs": _runs(times, labels, [row for row in counts if row.word is not None]),
        "latency": _latency(times, labels, counts),
        "stages": _stages(counts, tried[0], answers[0]),
        "cost": _cost(times, labels, cost),
    }


def _times(count: int, unit: str) -> list[datetime]:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    last = now if unit == "hour" else now.replace(hour=0)
    return [last - _STEP[unit] * back for back in range(count - 1, -1, -1)]


def _runs(times: Sequence[datetime], labels: Sequence[str], rows: Sequence[Any]) -> dict[str, Any]:
    at = {time: index for index, time in enumerate(times)}
    words: dict[str, list[int]] = {}
    for row in rows:
        if row.unit in at:
            words.setdefault(row.word, [0] * len(times))[at[row.unit]] += row.jobs
    order = sorted(words, key=lambda word: (_TONES.index(show.tone(word)), word))
    series = {word: words[word] for word in order}
    picture = charts.bars(labels, series, [show.tone(word) for word in order], every=_every(labels))
    return {"picture": picture, "series": series, "sums": {word: sum(each) for word, each in series.items()}}


def _latency(times: Sequence[datetime], labels: Sequence[str], counts: Sequence[Any]) -> dict[str, Any]:
    found: dict[datetime, dict[int, int]] = {}
    for row in counts:
        if row.unit is not None and row.total is not None:
            found.setdefault(row.unit, {})[row.total] = row.jobs
    at = {time: classes.percentiles(each, numbers.PERCENTILES) or [] for time, each in found.items()}
    names = [f"p{share * 100:g}" for share in numbers.PERCENTILES]
    series = {
        name: [at[time][index] if time in at else None for time in times] for index, name in enumerate(names)
    }
    tones = ("good", "limit", "bad")
    picture = charts.lines(labels, series, tones, formatter=show.seconds, every=_every(labels))
    return {"picture": picture, "series": series, "tones": dict(zip(names, tones, strict=True))}


def _stages(counts: Sequence[Any], tried: Any, answers: Any) -> list[dict[str, Any]]:
    """The whole, and where it went; what never happened is left out."""
    whole: Counter[int] = Counter()
    waited: Counter[int] = Counter()
    for row in counts:
        if row.total is not None:
            whole[row.total] += row.jobs
        if row.waited is not None:
            waited[row.waited] += row.jobs
    found = [
        ("whole", whole.total(), classes.percentiles(whole, numbers.PERCENTILES)),
        ("waiting for the first step", waited.total(), classes.percentiles(waited, numbers.PERCENTILES)),
        ("model answer", answers.times, answers.seconds),
        ("sandbox start", tried.starts, tried.start_s),
        ("run", tried.runs, tried.run_s),
    ]
    return [{"stage": stage, "times": times, "seconds": seconds} for stage, times, seconds in found if times]


def _cost(times: Sequence[datetime], labels: Sequence[str], rows: Sequence[Any]) -> dict[str, Any]:
    at = {time: index for index, time in enumerate(times)}
    models: dict[str, dict[str, Any]] = {}
    for row in rows:
        each = models.setdefault(
            row.model,
            {"calls": 0, "cost": None, "input": 0, "output": 0, "by_time": [Decimal(0)] * len(times)},
        )
        each["calls"] += row.calls
        each["input"] += row.input_tokens or 0
        each["output"] += row.output_tokens or 0
        if row.cost is not None:
            each["cost"] = (each["cost"] or Decimal(0)) + row.cost
            if row.unit in at:
                each["by_time"][at[row.unit]] += row.cost
    tones = [_MODEL_TONES[min(index, len(_MODEL_TONES) - 1)] for index, _ in enumerate(models)]
    series = {model: [float(cost) for cost in each["by_time"]] for model, each in models.items()}
    picture = charts.bars(
        labels, series, tones, formatter=lambda value: show.money(str(value)), every=_every(labels)
    )
    return {"picture": picture, "models": models, "tones": dict(zip(models, tones, strict=True))}


def _every(labels: Sequence[str]) -> int:
    """Of how many labels one is written."""
    return max(1, len(labels) // 8)


async def _service(services: Services) -> dict[str, Any]:
    """What live workers report of their sandboxes, and what waits in the queues."""
    live = await services.database.all(LIVE_WORKERS, {})
    return {"sandboxes": workers.sandboxes(live), "queues": await services.metering.depths()}
