"""From rows to the JSON that clients read. A row has its columns as attributes, whoever read it."""

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

Document = dict[str, Any]


def job_path(job_id: UUID) -> str:
    """Where a job is."""
    return f"/v1/jobs/{job_id}"


def job_links(job_id: UUID) -> dict[str, str]:
    """Where things of a job are."""
    path = job_path(job_id)
    return {"self": path, "attempts": path + "/attempts", "events": path + "/events"}


def summary(row: Any) -> Document:
    """A job as lists show it."""
    return {
        "id": row.id,
        "state": row.state,
        "verdict": row.verdict,
        "reason": row.reason,
        "language": row.language,
        "profile": row.profile,
        "labels": row.labels,
        "reuse": row.reuse,
        "rerun_of": row.rerun_of,
        "priority": row.priority,
        "cache": row.cache,
        "outcome": row.outcome,
        "model": row.model,
        "cost_usd": _money(row.cost_usd),
        "cost_complete": row.cost_complete,
        "scripted": row.scripted,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "links": job_links(row.id),
    }


def job(row: Any) -> Document:
    """A job with what its last attempt gave; `row` is one of `statements.JOB`."""
    last = {name[2:]: value for name, value in row._asdict().items() if name.startswith("a_")}
    return {
        **summary(row),
        "code": row.code if row.task is None else last.get("code"),
        "task": row.task,
        "policy": row.policy,
        "check": row.check_by,
        "budget_usd": _money(row.budget_usd),
        "limits": row.limits,
        **_outputs(last),
        "artifacts": [],
        "usage": _usage(last, _seconds_between(row.created_at, row.started_at)),
        "attempts": sorted(row.attempts or (), key=lambda attempt: int(attempt["number"])),
    }


def fresh_job(job_id: UUID, row: Mapping[str, Any], created_at: datetime) -> Document:
    """A job that was stored a moment ago, without reading it back; `row` is what was stored."""
    return {
        "id": job_id,
        "state": "queued",
        "verdict": None,
        "reason": None,
        "language": row["language"],
        "profile": row["profile"],
        "labels": row["labels"],
        "reuse": row["reuse"],
        "rerun_of": row.get("rerun_of"),
        "priority": row["priority"],
        "cache": row["cache"],
        "outcome": None,
        "model": None,
        "cost_usd": "0",
        "cost_complete": True,
        "scripted": False,
        "created_at": created_at,
        "started_at": None,
        "finished_at": None,
        "links": job_links(job_id),
        "code": row["code"],
        "task": row["task"],
        "policy": row["policy"],
        "check": row["check_by"],
        "budget_usd": _money(row["budget_usd"]),
        "limits": row["limits"],
        **_outputs({}),
        "artifacts": [],
        "usage": _usage({}, None),
        "attempts": [],
    }


def attempt(row: Any, calls: Iterable[Any] = ()) -> Document:
    """One attempt in full, with the calls of its round."""
    path = job_path(row.job_id)
    values = row._asdict()
    return {
        "job_id": row.job_id,
        "number": row.number,
        "verdict": row.verdict,
        "failure": row.failure,
        "code": row.code,
        "cached": row.cached,
        "round": row.round,
        "model": row.model,
        "scripted": row.scripted,
        "cost_usd": _money(row.cost_usd),
        "choice": row.choice,
        "calls": [call(each) for each in calls],
        "check_passed": row.check_passed,
        "note": row.note,
        "profile": row.profile or row.job_profile,
        "limits": row.limits or row.job_limits,
        **_outputs(values),
        "image": row.image,
        "image_digest": row.image_digest,
        "runtime": row.runtime,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "usage": _usage(values, None),
        "links": {"self": f"{path}/attempts/{row.number}", "job": path},
    }


#: What is told of a call; its job and its round are where it is told.
_CALL = (
    "id", "gateway", "model", "model_version", "request_id", "prompt", "parameters", "answer", "finish",
    "failure", "detail", "status", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "estimated", "price", "latency_s", "first_byte_s", "cache_hit", "scripted", "created_at",
)  # fmt: skip


def call(row: Any) -> Document:
    """One question to a model."""
    return {**{name: getattr(row, name) for name in _CALL}, "cost_usd": _money(row.cost_usd)}


def _money(amount: Decimal | None) -> str | None:
    """A decimal as text, without an exponent and without zeros at its end."""
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _outputs(values: Mapping[str, Any]) -> Document:
    return {
        "exit_code": values.get("exit_code"),
        "signal": values.get("signal"),
        **_stream("stdout", values),
        **_stream("stderr", values),
    }


def _stream(name: str, values: Mapping[str, Any]) -> Document:
    kept = values.get(name) or b""
    written = values.get(f"{name}_bytes") or 0
    truncated = written > len(kept)
    text, encoding = _text(kept, truncated=truncated)
    return {
        name: text,
        f"{name}_encoding": encoding,
        f"{name}_bytes": written,
        f"{name}_truncated": truncated,
    }


def _text(kept: bytes, *, truncated: bool) -> tuple[str, str]:
    try:
        return kept.decode(), "utf-8"
    except UnicodeDecodeError as error:
        # Cut within its last character, a text is still a text.
        if truncated and error.reason == "unexpected end of data" and len(kept) - error.start <= 3:
            return kept[: error.start].decode(), "utf-8"
    return base64.b64encode(kept).decode(), "base64"


def _usage(values: Mapping[str, Any], queue_s: float | None) -> Document:
    return {
        "queue_s": queue_s,
        "wall_s": _rounded(values.get("wall_s")),
        "cpu_s": _rounded(values.get("cpu_s")),
        "peak_memory_bytes": values.get("peak_memory_bytes"),
        "oom_kills": values.get("oom_kills"),
        "sandbox_start": values.get("sandbox_start"),
        "sandbox_start_s": _rounded(values.get("sandbox_start_s")),
        "sandbox_reused": values.get("sandbox_reused"),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _seconds_between(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else round((end - start).total_seconds(), 6)
