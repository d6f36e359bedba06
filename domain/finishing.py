"""The end of an attempt: what it records, and where its job goes, in one statement."""

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Executable,
    Integer,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    false,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.leasing import MINE, NO_LEASE
from domain.states import FINAL_STATES, State
from domain.tables.attempt import artifacts, attempts
from domain.tables.job import jobs

#: What a finished attempt records; parameters of FINISH, RETRY and BREAK carry the same names.
ATTEMPT_FIELDS = (
    "code",
    "verdict",
    "failure",
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
    "image",
    "image_digest",
    "runtime",
    "worker",
    "profile",
    "limits",
    "cached",
    "round",
    "model",
    "choice",
    "cost_usd",
    "scripted",
    "check_passed",
    "note",
)

#: What it records beside these when it left files, or results; its artifacts are in `kept`, a JSON array.
LEFT_FIELDS = ("artifacts", "left_out", "results")


def _given(name: str) -> ColumnElement[Any]:
    """A parameter for a column of `attempts`. JSON comes as text; a flag that is not given is false."""
    column = attempts.c[name]
    if isinstance(column.type, JSONB):
        return cast(bindparam(f"a_{name}", type_=Text), JSONB)
    value = cast(bindparam(f"a_{name}"), column.type)
    return func.coalesce(value, false()) if isinstance(column.type, Boolean) and not column.nullable else value


#: For each statement that ends an attempt, the same for one that left something: LEFT_FIELDS and `kept` more.
WITH_LEAVINGS: dict[Executable, Executable] = {}


def next_number(job_id: ColumnElement[Any]) -> ColumnElement[Any]:
    """The number of a job's next attempt."""
    highest = select(func.max(attempts.c.number)).where(attempts.c.job_id == job_id).scalar_subquery()
    return func.coalesce(highest, 0) + 1


def end_attempt(state: State, **values: Any) -> Executable:
    """Move my job to `state` and record the attempt that led there, in one statement.

    `WITH_LEAVINGS` has the same for an attempt that left something: an attempt that did not pays nothing.
    """
    plain = _end_attempt(state, ATTEMPT_FIELDS, **values)
    WITH_LEAVINGS[plain] = _end_attempt(state, ATTEMPT_FIELDS + LEFT_FIELDS, **values)
    return plain


def _end_attempt(state: State, fields: tuple[str, ...], **values: Any) -> Executable:
    when = {"finished_at": func.now()} if state in FINAL_STATES else {"rung_at": func.now()}
    moved = (
        update(jobs)
        .where(MINE)
        .values(state=state.value, **NO_LEASE, **when, **values)
        .returning(jobs.c.id)
        .cte("moved")
    )
    record = [_given(name).label(name) for name in fields]
    # The database's clock again: the worker tells how long, never when.
    began = func.now() - func.make_interval(
        0, 0, 0, 0, 0, 0, func.coalesce(cast(bindparam("a_wall_s"), Double), 0.0)
    )
    number = cast(next_number(moved.c.id), Integer)
    ended = insert(attempts).from_select(
        ["job_id", "number", "started_at", *fields],
        select(moved.c.id, number, began, *record),
    )
    if fields != ATTEMPT_FIELDS:
        ended = ended.add_cte(_keep(moved, number))
    return ended.returning(attempts.c.number)


def _keep(moved: CTE, number: ColumnElement[Any]) -> CTE:
    """Insert the artifacts in the parameter `kept`, if the job moved."""
    names = ("id", "name", "media_type", "size", "head", "sha256")
    rows = func.jsonb_to_recordset(cast(bindparam("kept"), JSONB)).table_valued(
        column("id", Uuid),
        column("name", Text),
        column("media_type", Text),
        column("size", BigInteger),
        column("head", Text),
        column("sha256", Text),  # in hexadecimal
    )
    kept = rows.render_derived(name="kept", with_types=True)
    found = [kept.c[name] for name in names[:-1]]
    return (
        insert(artifacts)
        .from_select(
            ["job_id", "attempt", *names],
            select(moved.c.id, number, *found, func.decode(kept.c.sha256, "hex")).select_from(
                moved.join(kept, literal(True))
            ),
        )
        .cte("keep")
    )


#: id, token, verdict and reason of the job, a_… of the attempt -> the attempt's number, if the lease held.
FINISH: Executable = end_attempt(
    State.FINISHED,
    verdict=bindparam("b_verdict", type_=Text),
    reason=bindparam("b_reason", type_=Text),
)

#: The sandbox failed, not the program: back to the queue, with the failed attempt recorded.
RETRY: Executable = end_attempt(State.QUEUED)

#: The sandbox failed too often: the job is broken, with the failed attempt recorded.
BREAK: Executable = end_attempt(State.BROKEN, reason=bindparam("b_reason", type_=Text))
