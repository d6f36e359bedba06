"""The statements that only the API needs: one job with its attempts, and a caller's list of jobs."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Executable,
    Integer,
    Numeric,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by

from domain.job_statements import UNFINISHED
from domain.states import FINAL_STATES
from domain.tables.attempt import artifacts, attempts, model_calls
from domain.tables.caller import files
from domain.tables.job import jobs

#: ids -> those of them that have ended.
FINAL_AMONG: Executable = select(jobs.c.id).where(
    jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    jobs.c.state.in_([s.value for s in sorted(FINAL_STATES)]),
)

#: id, caller_id -> when the job was stored.
CREATED_AT: Executable = select(jobs.c.created_at).where(
    jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id")
)

#: id, caller_id -> how far the job is, and how many attempts it has.
PROGRESS: Executable = select(
    *(jobs.c[name] for name in ("state", "verdict", "reason", "task", "claims")),
    *(jobs.c[name] for name in ("created_at", "started_at", "finished_at")),
    select(func.count())
    .select_from(attempts)
    .where(attempts.c.job_id == bindparam("id"))
    .scalar_subquery()
    .label("attempts"),
).where(jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id"))

_LAST_ATTEMPT = (
    "number",
    "exit_code",
    "signal",
    "stdout",
    "stderr",
    "stdout_bytes",
    "stderr_bytes",
    "stdout_head",
    "stderr_head",
    "wall_s",
    "compile_s",
    "cpu_s",
    "peak_memory_bytes",
    "oom_kills",
    "sandbox_start",
    "sandbox_start_s",
    "sandbox_reused",
    "artifacts",
    "left_out",
    "results",
    "code",
)
#: What lists tell of each job.
SUMMARY = (
    "id",
    "state",
    "verdict",
    "reason",
    "language",
    "profile",
    "labels",
    "reuse",
    "runtime",
    "rerun_of",
    "batch_id",
    "priority",
    "cache",
    "outcome",
    "model",
    "cost_usd",
    "cost_complete",
    "scripted",
    "created_at",
    "started_at",
    "finished_at",
)

_WHOLE = ("limits", "code", "task", "policy", "check_by", "budget_usd", "files")


def _exact(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Decimals as text: numbers of JSON would be rounded."""
    if isinstance(column, Column) and isinstance(column.type, Numeric) and not isinstance(column.type, Double):
        return cast(column, Text).label(column.name)
    return column


def _kept() -> ColumnElement[Any]:
    """The artifacts of the attempt in the row, as JSON; not looked for where it left none."""
    pairs: list[ColumnElement[Any]] = []
    for name in ("id", "name", "size", "media_type"):
        pairs += [literal_column(f"'{name}'"), artifacts.c[name]]
    pairs += [literal_column("'sha256'"), func.encode(artifacts.c.sha256, literal_column("'hex'"))]
    found = select(func.jsonb_agg(aggregate_order_by(func.jsonb_build_object(*pairs), artifacts.c.name))).where(
        artifacts.c.job_id == attempts.c.job_id, artifacts.c.attempt == attempts.c.number
    )
    return case((attempts.c.artifacts > literal_column("0"), found.scalar_subquery())).label("a_kept")


def _job_with_attempts(job_id: ColumnElement[Any], *which: ColumnElement[bool]) -> Select[Any]:
    """For each job its row, its last attempt as `a_…`, and all attempts in short form as JSON."""
    tries = attempts.alias("tries")
    highest = select(func.max(tries.c.number)).where(tries.c.job_id == job_id).correlate(jobs).scalar_subquery()
    pairs: list[ColumnElement[Any]] = []
    for name in SHORT_ATTEMPT:
        pairs += [literal_column(f"'{name}'"), _exact(tries.c[name])]
    short = (
        select(func.jsonb_agg(func.jsonb_build_object(*pairs)))
        .where(tries.c.job_id == job_id)
        .correlate(jobs)
        .scalar_subquery()
    )
    return (
        select(
            *(jobs.c[name] for name in (*SUMMARY, *_WHOLE)),
            *(attempts.c[name].label(f"a_{name}") for name in _LAST_ATTEMPT),
            _kept(),
            short.label("attempts"),
        )
        .select_from(
            jobs.outerjoin(attempts, and_(attempts.c.job_id == jobs.c.id, attempts.c.number == highest))
        )
        .where(*which)
    )


#: What a job document tells of each attempt.
SHORT_ATTEMPT = (
    "number",
    "verdict",
    "failure",
    "wall_s",
    "compile_s",
    "sandbox_start",
    "cached",
    "round",
    "model",
    "cost_usd",
    "scripted",
    "check_passed",
    "note",
)

#: id, caller_id -> everything that a job document shows.
JOB: Executable = _job_with_attempts(
    bindparam("id"), jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id")
)

#: ids -> the same of several jobs, and their places in a batch, in which order they are.
JOBS: Executable = (
    _job_with_attempts(jobs.c.id, jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))))
    .add_columns(jobs.c.batch_index)
    .order_by(jobs.c.batch_index)
)

#: id, caller_id -> what was asked for.
REQUEST: Executable = select(
    *(
        jobs.c[name]
        for name in (
            *("id", "language", "profile", "limits", "labels", "reuse", "runtime", "priority", "cache", "code"),
            *("task", "policy", "check_by", "budget_usd", "stdin", "args", "env", "files", "inline_files"),
        )
    ),
).where(jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id"))

#: id, caller_id, number -> one attempt, if the job is the caller's.
ATTEMPT: Executable = (
    select(attempts, jobs.c.profile.label("job_profile"), jobs.c.limits.label("job_limits"), _kept())
    .join(jobs)
    .where(
        jobs.c.id == bindparam("id"),
        jobs.c.caller_id == bindparam("caller_id"),
        attempts.c.number == bindparam("number"),
    )
)

#: job_id, round -> the calls of a round, in order.
CALLS: Executable = (
    select(model_calls)
    .where(model_calls.c.job_id == bindparam("job_id"), model_calls.c.round == bindparam("round"))
    .order_by(model_calls.c.id)
)

#: id, caller_id -> the job's id and its attempts in short form; one row of nulls where it has none.
ATTEMPTS: Select[Any] = (
    select(jobs.c.id, *(_exact(attempts.c[name]) for name in SHORT_ATTEMPT))
    .outerjoin(attempts, attempts.c.job_id == jobs.c.id)
    .where(jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id"))
    .order_by(attempts.c.number)
)

#: id, caller_id -> the same, with how many files each left, and those of them that are kept.
ENDED_ATTEMPTS: Executable = ATTEMPTS.add_columns(attempts.c.artifacts, _kept())


# --- files and artifacts ------------------------------------------------------------------------------

_attempt = func.coalesce(
    cast(bindparam("number"), Integer),
    select(func.max(attempts.c.number)).where(attempts.c.job_id == bindparam("id")).scalar_subquery(),
)

#: id, caller_id, number or None for the last -> what an attempt left.
LEAVINGS: Executable = (
    select(attempts.c.number, attempts.c.left_out, attempts.c.results, _kept())
    .join(jobs)
    .where(
        jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id"), attempts.c.number == _attempt
    )
)

#: id, caller_id, number or None for the last, name -> an artifact, if the job is the caller's.
GET_ARTIFACT: Executable = (
    select(artifacts)
    .join(jobs)
    .where(
        jobs.c.id == bindparam("id"),
        jobs.c.caller_id == bindparam("caller_id"),
        artifacts.c.attempt == _attempt,
        artifacts.c.name == bindparam("name"),
    )
)

_file_of_caller = and_(files.c.id == bindparam("id"), files.c.caller_id == bindparam("caller_id"))

#: id, caller_id -> an uploaded file.
GET_FILE: Executable = select(files).where(_file_of_caller)


def _insert_file() -> Executable:
    names = ("id", "caller_id", "name", "size", "sha256")
    stored = (
        select(func.coalesce(func.sum(files.c.size), 0))
        .where(files.c.caller_id == bindparam("caller_id"))
        .scalar_subquery()
    )
    row = [cast(bindparam(name), files.c[name].type) for name in names]
    fits = stored + cast(bindparam("size"), BigInteger) <= cast(bindparam("most"), BigInteger)
    return insert(files).from_select(names, select(*row).where(fits)).returning(files)


#: Columns of `files`, most -> the row, unless the caller's files would have more than `most` bytes together.
INSERT_FILE: Executable = _insert_file()

#: id, caller_id, uses ([{"file": id}]) -> the id, if it was deleted; not while an unfinished job needs it.
DELETE_FILE: Executable = (
    delete(files)
    .where(
        _file_of_caller,
        ~exists(
            select(jobs.c.id).where(
                jobs.c.caller_id == bindparam("caller_id"),
                UNFINISHED,
                jobs.c.files.contains(bindparam("uses", type_=JSONB)),
            )
        ),
    )
    .returning(files.c.id)
)
