"""From a stored job to the request that asks for it again."""

import base64
from typing import Any

from api.problems import FieldError, invalid
from domain.tasks import Policy

#: What is the job itself, and not how it is run.
FIXED = ("code", "task")


def rerun_request(row: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """The body of `POST /v1/jobs` that asks for a stored job, with `changes` in place of what it said.

    Limits are changed one by one. In another profile those of the old one say nothing, and are left out.

    Raises:
        Problem: 422, a change is of the job itself.
    """
    for name in FIXED:
        if name in changes:
            raise invalid(FieldError(name, "cannot be changed by a rerun; submit another job"))
    again = {
        "language": row.language,
        "profile": row.profile,
        "limits": dict(row.limits),
        "stdin": bytes(row.stdin or b"").decode(),
        "args": list(row.args),
        "env": row.env,
        "labels": row.labels,
        "reuse": row.reuse,
        "runtime": row.runtime,
        "priority": row.priority,
        "cache": row.cache,
        **({"files": _files(row)} if row.files else {}),
        **({} if row.task is None else _of_task(row)),
        **{name: getattr(row, name) for name in FIXED if getattr(row, name) is not None},
    }
    if changes.get("profile", row.profile) != row.profile:
        again["limits"] = {}
    limits = changes.get("limits")
    if isinstance(limits, dict):
        changes = {**changes, "limits": {**again["limits"], **limits}}
    if "model" in changes and "route" not in changes:
        again.pop("route", None)  # it says which model `auto` prefers
    return {**again, **changes}


def _files(row: Any) -> list[dict[str, Any]]:
    """The files of a job: uploaded ones by their ids, inline ones with their contents."""
    rest = bytes(row.inline_files or b"")
    again = []
    for given in row.files:
        if given["file"] is None:
            content, rest = rest[: given["size"]], rest[given["size"] :]
            again.append({"name": given["name"], "base64": base64.b64encode(content).decode()})
        else:
            again.append({"name": given["name"], "file": given["file"]})
    return again


def _of_task(row: Any) -> dict[str, Any]:
    """What is asked of tasks alone, without what was left open."""
    policy = Policy.of(row.policy or {})
    asked = {
        "model": policy.model,
        "route": policy.route,
        "required_accuracy": policy.required_accuracy,
        "fallbacks": None if policy.fallbacks is None else list(policy.fallbacks),
        "max_attempts": policy.max_attempts,
        "preset": policy.preset,
        **{name: getattr(policy, name) for name in policy.asked},
        "larger_profile": policy.larger_profile,
        "check": row.check_by,
        "budget_usd": None if row.budget_usd is None else str(row.budget_usd),
    }
    return {name: value for name, value in asked.items() if value is not None}
