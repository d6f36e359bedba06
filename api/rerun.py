"""From a stored job to the request that asks for it again."""

from typing import Any

from api.problems import FieldError, invalid

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
        **{name: getattr(row, name) for name in FIXED if getattr(row, name) is not None},
    }
    if changes.get("profile", row.profile) != row.profile:
        again["limits"] = {}
    limits = changes.get("limits")
    if isinstance(limits, dict):
        changes = {**changes, "limits": {**again["limits"], **limits}}
    return {**again, **changes}
