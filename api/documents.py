"""From rows to the JSON that clients read. A row has its columns as attributes, whoever read it."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
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
        "runtime": row.runtime,
        "rerun_of": row.rerun_of,
        "batch_id": row.batch_id,
        "priority": row.priority,
        "cache": row.cache,
        "outcome": row.outcome,
        "model": row.model,
        "cost_usd": money(row.cost_usd),
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
        "budget_usd": money(row.budget_usd),
        "limits": _limits(row.limits),
        "files": row.files or [],
        **_outputs(last),
        **leavings(row.id, last),
        "usage": _usage(last, _seconds_between(row.created_at, row.started_at)),
        "attempts": sorted(row.attempts or (), key=lambda attempt: int(attempt["number"])),
    }


def fresh_job(
    job_id: UUID, row: Mapping[str, Any], created_at: datetime, files: Sequence[Mapping[str, Any]] = ()
) -> Document:
    """A job that was stored a moment ago, without reading it back; `row` is what was stored, with `files`."""
    return {
        "id": job_id,
        "state": "queued",
        "verdict": None,
        "reason": None,
        "language": row["language"],
        "profile": row["profile"],
        "labels": row["labels"],
        "reuse": row["reuse"],
        "runtime": row["runtime"],
        "rerun_of": row.get("rerun_of"),
        "batch_id": None,
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
        "budget_usd": money(row["budget_usd"]),
        "limits": row["limits"],
        "files": files,
        **_outputs({}),
        **leavings(job_id, {}),
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
        "cost_usd": money(row.cost_usd),
        "choice": row.choice,
        "calls": [call(each) for each in calls],
        "check_passed": row.check_passed,
        "note": row.note,
        "profile": row.profile or row.job_profile,
        "limits": row.limits or row.job_limits,
        **_outputs(values),
        **leavings(row.job_id, values, row.number),
        "image": row.image,
        "image_digest": row.image_digest,
        "runtime": row.runtime,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "usage": _usage(values, None),
        "links": {"self": f"{path}/attempts/{row.number}", "job": path},
    }


def leavings(job_id: UUID, values: Mapping[str, Any], attempt: int | None = None) -> Document:
    """What an attempt left, from its columns; links name the attempt where it is given."""
    told = values.get("left_out") or {"files": {}, "more": 0}
    return {
        "artifacts": [
            {**artifact(job_id, kept, attempt), "base64": None}
            for kept in values.get("a_kept") or values.get("kept") or ()
        ],
        "left_out": [{"name": name, "reason": why} for name, why in told["files"].items()],
        "left_out_more": told["more"],
        "results": values.get("results") or [],
    }


def artifact(job_id: UUID, kept: Mapping[str, Any], attempt: int | None = None) -> Document:
    """What is told of an artifact; its link names the attempt where it is given."""
    told = {name: kept[name] for name in ("name", "size", "media_type", "sha256")}
    return {**told, "links": {"self": artifact_path(job_id, kept["name"], attempt)}}


def artifact_path(job_id: UUID, name: str, attempt: int | None = None) -> str:
    """Where an artifact is, of the last attempt or of the one given."""
    path = f"{job_path(job_id)}/artifacts/{quote(name)}"
    return path if attempt is None else f"{path}?attempt={attempt}"


def file(row: Any) -> Document:
    """An uploaded file."""
    return {
        "id": row.id,
        "name": row.name,
        "size": row.size,
        "sha256": bytes(row.sha256).hex(),
        "created_at": row.created_at,
        "links": {"self": f"/v1/files/{row.id}"},
    }


#: What is told of a call; its job and its round are where it is told.
_CALL = (
    "id", "gateway", "model", "model_version", "request_id", "prompt", "parameters", "answer", "finish",
    "failure", "detail", "status", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "estimated", "price", "latency_s", "first_byte_s", "cache_hit", "scripted", "created_at",
)  # fmt: skip


def call(row: Any) -> Document:
    """One question to a model."""
    return {**{name: getattr(row, name) for name in _CALL}, "cost_usd": money(row.cost_usd)}


def money(amount: Decimal | None) -> str | None:
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
    cut = None
    if truncated:
        head = values.get(f"{name}_head")
        head = len(kept) if head is None else head  # the rest was never seen
        cut = {"kept_head": head, "kept_tail": len(kept) - head, "total": written}
    return {
        name: text,
        f"{name}_encoding": encoding,
        f"{name}_bytes": written,
        f"{name}_truncated": cut,
    }


def _limits(stored: Mapping[str, Any]) -> Document:
    """Limits as they apply; rows from before `cpu_s` existed lack it."""
    return {"cpu_s": None, **stored}


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
        "compile_s": _rounded(values.get("compile_s")),
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
