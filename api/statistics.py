"""What a caller's jobs came to between two moments: one row in all, or one for each group."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Executable,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
    true,
)

from api import documents
from api.numbers import MINE, PERCENTILES, UNIT, percentiles, took
from api.stat_schemas import JobStats, Spread
from domain.states import State, Verdict
from domain.tables.attempt import attempts, model_calls
from domain.tables.job import jobs

#: What jobs can be grouped by.
DIMENSIONS: dict[str, ColumnElement[Any]] = {
    "model": jobs.c.model,
    "language": jobs.c.language,
    "verdict": jobs.c.verdict,
    "time": UNIT,
}

#: What is told as an average and percentiles.
SPREADS = ("queue_s", "start_s", "run_s", "total_s")

#: Jobs that are the latest.
LATEST_JOBS = 1000

_OURS = (State.FINISHED.value, State.BROKEN.value)
_until = jobs.c.created_at < bindparam("until", type_=DateTime(timezone=True))


def _of_attempts() -> Any:
    start = attempts.c.sandbox_start
    return (
        select(
            func.count().filter(start == "warm").label("warm_starts"),
            func.count().filter(start == "cold").label("cold_starts"),
            func.count().filter(attempts.c.cached).label("cached_runs"),
            func.sum(attempts.c.sandbox_start_s).label("start_s"),
            func.sum(attempts.c.wall_s).label("run_s"),
            func.coalesce(
                func.bool_or(
                    and_(attempts.c.number == 1, attempts.c.verdict.is_distinct_from(Verdict.OK.value))
                ),
                literal(False),
            ).label("first_failed"),
        )
        .where(attempts.c.job_id == jobs.c.id)
        .lateral("tried")
    )


def _of_calls() -> Any:
    return (
        select(
            func.count().label("model_calls"),
            func.count().filter(model_calls.c.cache_hit).label("cached_answers"),
            func.sum(model_calls.c.input_tokens).label("input_tokens"),
            func.sum(model_calls.c.output_tokens).label("output_tokens"),
        )
        .where(model_calls.c.job_id == jobs.c.id)
        .lateral("asked")
    )


@lru_cache(maxsize=32)
def statistics(by: tuple[str, ...]) -> Executable:
    """The statement that groups by some of `DIMENSIONS`. Parameters: those of `numbers.since`, and `until`."""
    tried, asked = _of_attempts(), _of_calls()
    ok = jobs.c.verdict == Verdict.OK.value
    seconds = {
        "queue_s": took(jobs.c.started_at, jobs.c.created_at),
        "start_s": tried.c.start_s,
        "run_s": tried.c.run_s,
        "total_s": case((jobs.c.state == State.FINISHED.value, took(jobs.c.finished_at, jobs.c.created_at))),
    }

    def number(*which: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.count().filter(*which) if which else func.count()

    def total(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.coalesce(func.sum(column), 0)

    sums = [
        *(tried.c[name] for name in ("warm_starts", "cold_starts", "cached_runs")),
        *(asked.c[name] for name in ("model_calls", "cached_answers", "input_tokens", "output_tokens")),
    ]
    found = (
        select(
            *(DIMENSIONS[name].label(name) for name in by),
            number().label("jobs"),
            number(jobs.c.finished_at.is_(None)).label("unfinished"),
            number(jobs.c.state == State.CANCELLED.value).label("cancelled"),
            number(jobs.c.state == State.BROKEN.value).label("broken"),
            number(jobs.c.state == State.FINISHED.value).label("finished"),
            number(ok).label("succeeded"),
            *(func.avg(value).label(f"{name}_avg") for name, value in seconds.items()),
            *(percentiles(value).label(name) for name, value in seconds.items()),
            *(total(column).label(column.name) for column in sums),
            total(jobs.c.cost_usd).label("cost_usd"),
            func.coalesce(func.bool_and(jobs.c.cost_complete), literal(True)).label("cost_complete"),
            number(tried.c.first_failed, jobs.c.state.in_(_OURS)).label("first_failed"),
            number(tried.c.first_failed, ok).label("recovered"),
        )
        .select_from(jobs.join(tried, true()).join(asked, true()))
        .where(*MINE, _until)
    )
    places: list[ColumnElement[Any]] = [literal_column(str(place)) for place in range(1, len(by) + 1)]
    return found.group_by(*places).order_by(*places) if by else found


def _latest() -> Executable:
    last = (
        select(took(jobs.c.finished_at, jobs.c.created_at).label("total_s"))
        .where(*MINE, _until, jobs.c.state == State.FINISHED.value)
        .order_by(jobs.c.id.desc())
        .limit(LATEST_JOBS)
        .subquery("last")
    )
    return select(func.count().label("jobs"), func.avg(last.c.total_s).label("avg_total_s")).select_from(last)


#: The same parameters -> of the jobs that were submitted last and have finished: how many, and their average
#: time.
LATEST: Executable = _latest()


def document(row: Any, by: Sequence[str] = ()) -> documents.Document:
    """A row of `statistics` as clients read it."""
    ended = row.finished + row.broken
    return {
        **{name: getattr(row, name) for name in by},
        **{name: getattr(row, name) for name in ("jobs", "unfinished", "cancelled", "broken", "succeeded")},
        "failed": row.finished - row.succeeded,
        "success_rate": _share(row.succeeded, ended),
        **{name: _spread(row, name) for name in SPREADS},
        **{
            name: int(getattr(row, name))
            for name in (
                *("warm_starts", "cold_starts", "cached_runs", "model_calls", "cached_answers"),
                *("input_tokens", "output_tokens"),
            )
        },
        "cost_usd": documents.money(row.cost_usd),
        "cost_complete": row.cost_complete,
        "cost_per_success_usd": (
            documents.money(round(row.cost_usd / row.succeeded, 9)) if row.succeeded else None
        ),
        "first_failed": row.first_failed,
        "recovered": row.recovered,
        "recovery_rate": _share(row.recovered, row.first_failed),
    }


#: A row as CSV, behind what it is grouped by: what is spread has a column for each of its numbers.
CSV_COLUMNS = tuple(
    column
    for name in JobStats.model_fields
    for column in ([f"{name}_{part}" for part in Spread.model_fields] if name in SPREADS else [name])
)


def flat(found: documents.Document) -> documents.Document:
    """The same without objects in it."""
    parts = {f"{name}_{part}": value for name in SPREADS for part, value in (found[name] or {}).items()}
    return {**found, **parts}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _spread(row: Any, name: str) -> dict[str, float] | None:
    values = getattr(row, name)
    if values is None:
        return None
    shares = {f"p{share * 100:g}": round(value, 6) for share, value in zip(PERCENTILES, values, strict=True)}
    return {"avg": round(getattr(row, f"{name}_avg"), 6), **shares}
