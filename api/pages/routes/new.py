"""A new run: code or a task, from a form."""

import base64
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api.auth import caller_of
from api.pages.shell import PageRoute, files_of, form_of, go, needs, page
from api.problems import FieldError, Problem, invalid
from api.services import services_of
from api.submission import store
from domain.ids import new_id
from domain.quotas import Scope

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_WHOLE = ("timeout_s", "memory_mb", "cpu_s")
#: Fields of the form that are fields of a request as they are, if they are not empty.
_PLAIN = ("language", "profile", "runtime", "stdin")
_PLAIN_OF_TASK = ("model", "route", "preset", "budget_usd")


@router.get("/new", openapi_extra=needs(Scope.SUBMIT))
async def form(request: Request) -> Response:
    """The empty form."""
    return await _page(request, {}, [])


@router.post("/new", openapi_extra=needs(Scope.SUBMIT))
async def submit(request: Request) -> Response:
    """Stores a job exactly as `POST /v1/jobs` does, and goes to its page."""
    services = services_of(request)
    caller = caller_of(request.scope)
    given = await form_of(request)
    try:
        body = body_of(given, await files_of(request, "files"))
        wanted = services.intake.check(body, caller.runtime)
        if wanted.task is not None:
            services.intake.tasks.served(wanted.task, await services.serving.models())
        job_id = request.scope["retort.job_id"] = new_id()
        await store(services, caller, wanted, job_id, None)
    except Problem as problem:
        errors = problem.errors or [FieldError("", problem.detail)]
        return await _page(request, given, errors, problem.kind.status)
    return go(f"/runs/{job_id}")


def body_of(form: dict[str, str], files: Sequence[tuple[str, bytes]] = ()) -> dict[str, Any]:
    """The body of `POST /v1/jobs` that a form and its files stand for. Nothing is checked but numbers.

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
    if files:
        body["files"] = [
            {"name": name, "base64": base64.b64encode(content).decode()} for name, content in files
        ]
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
        "languages": [
            wish
            for language in services.offered.languages.values()
            for wish in language.wishes(services.offered.versions())
        ],
        "tiers": sorted(services.offered.tiers or ()),
        "profiles": services.intake.profiles.values(),
        "models": sorted(await services.serving.models()),
        "presets": services.catalogue.presets.values(),
    }
    return page(request, "new.html", values, status)
