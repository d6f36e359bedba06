"""A new run: code or a task, from a form."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.auth import caller_of
from api.pages.shell import PageRoute, form_of, go, page
from api.problems import FieldError, Problem, invalid
from api.services import services_of
from domain.bell import queue_of
from domain.ids import new_id
from domain.statements import INSERT_JOB

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_WHOLE = ("timeout_s", "memory_mb", "cpu_s")
#: Fields of the form that are fields of a request as they are, if they are not empty.
_PLAIN = ("language", "profile", "stdin")
_PLAIN_OF_TASK = ("model", "route", "preset", "budget_usd")


@router.get("/new")
async def form(request: Request) -> Response:
    """The empty form."""
    return await _page(request, {}, [])


@router.post("/new")
async def submit(request: Request) -> Response:
    """Stores a job exactly as `POST /v1/jobs` does, and goes to its page."""
    services = services_of(request)
    caller = caller_of(request.scope)
    given = await form_of(request)
    try:
        wanted = services.intake.check(body_of(given))
        if wanted.task is not None:
            services.intake.tasks.served(wanted.task, await services.serving.models())
        row = wanted.row()
        job_id = request.scope["retort.job_id"] = new_id()
        stored = await services.database.hot(INSERT_JOB, {"id": job_id, "caller_id": caller.id, **row})
        if stored is None:
            raise RuntimeError("an insert that returns nothing")
        services.bell.ring(job_id, queue_of(row["next_state"], row["priority"]))
    except Problem as problem:
        errors = problem.errors or [FieldError("", problem.detail)]
        return await _page(request, given, errors, problem.kind.status)
    return go(f"/runs/{job_id}")


def body_of(form: dict[str, str]) -> dict[str, Any]:
    """The body of `POST /v1/jobs` that a form stands for. Nothing is checked but numbers.

    Raises:
        Problem: 422.
    """
    kind = "task" if form.get("kind") == "task" else "code"
    body: dict[str, Any] = {kind: form.get("source", "")}
    body |= {name: form[name] for name in _PLAIN if form.get(name)}
    limits: dict[str, Any] = {name: _number(name, form[name], int) for name in _WHOLE if form.get(name)}
    if form.get("cpus"):
        limits["cpus"] = _number("cpus", form["cpus"], float)
    if limits:
        body["limits"] = limits
    if kind == "task":
        body |= {name: form[name] for name in _PLAIN_OF_TASK if form.get(name)}
        if form.get("max_attempts"):
            body["max_attempts"] = _number("max_attempts", form["max_attempts"], int)
        check = {name: form[f"check_{name}"] for name in ("tests", "stdout") if form.get(f"check_{name}")}
        if check:
            body["check"] = check
    return body


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError:
        raise invalid(
            FieldError(name, "must be a number" if kind is float else "must be a whole number")
        ) from None


async def _page(
    request: Request, given: dict[str, str], errors: list[FieldError], status: int = 200
) -> Response:
    services = services_of(request)
    values = {
        "given": given,
        "errors": errors,
        "languages": services.intake.languages.values(),
        "profiles": services.intake.profiles.values(),
        "models": sorted(await services.serving.models()),
        "presets": services.catalogue.presets.values(),
    }
    return page(request, "new.html", values, status)
