"""The statements that move jobs, each one round trip, each fenced.

Every write of a worker names its lease token, so a worker that lost its lease changes nothing: no row back
means stop quietly. Statements are built once; executing one costs no compilation. Parameters are the
`bindparam` names; `b_` marks those that would otherwise clash with a column of the same statement.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Executable,
    Integer,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from domain.bell import LEASE_S, MAX_CLAIMS, queue_of
from domain.states import FINAL_STATES, Priority, Runtime, State
from domain.tables import artifacts, attempts, callers, files, idempotency_keys, jobs, model_calls, workers

#: `b_lease_s` may be left out.
_lease_until = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("b_lease_s", LEASE_S, type_=Double))
NO_LEASE = {"lease_token": None, "lease_until": None, "leased_by": None}
MINE = and_(jobs.c.id == bindparam("b_id"), jobs.c.lease_token == bindparam("b_token"))
# A job has a token exactly while it is leased (the database sees to it), and this is how the index says it.
_expired = and_(jobs.c.lease_token.is_not(None), jobs.c.lease_until < func.now())


def _ago(seconds: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.now() - cast(func.concat(seconds, " seconds"), INTERVAL)


# --- jobs, as the API sees them -----------------------------------------------------------------------

#: Columns of `jobs` as parameters. Gives `created_at` back.
INSERT_JOB: Executable = insert(jobs).returning(jobs.c.created_at)

_job_of_caller = and_(jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id"))

#: id, caller_id -> the job, unless it is another caller's.
GET_JOB: Executable = select(jobs).where(_job_of_caller)

#: id, caller_id -> the job's state alone: what a waiting client polls.
GET_STATE: Executable = select(jobs.c.state).where(_job_of_caller)

#: job_id -> its attempts, in order.
GET_ATTEMPTS: Executable = (
    select(attempts).where(attempts.c.job_id == bindparam("job_id")).order_by(attempts.c.number)
)

# --- claim, heartbeat, finish -------------------------------------------------------------------------

_claimed_columns = (
    jobs.c.id,
    jobs.c.caller_id,
    jobs.c.state,
    jobs.c.claims,
    jobs.c.code,
    jobs.c.task,
    jobs.c.language,
    jobs.c.profile,
    jobs.c.limits,
    jobs.c.stdin,
    jobs.c.args,
    jobs.c.env,
    jobs.c.files,
    jobs.c.inline_files,
    jobs.c.reuse,
    jobs.c.runtime,
    # The tier its caller is bound to, looked at again when the job is taken.
    select(callers.c.runtime).where(callers.c.id == jobs.c.caller_id).scalar_subquery().label("bound_to"),
    jobs.c.cache,
    jobs.c.priority,
    jobs.c.policy,
    jobs.c.check_by,
    jobs.c.budget_usd,
    jobs.c.cost_usd,
    jobs.c.round,
    jobs.c.draft,
    jobs.c.traceparent,
    func.date_part("epoch", func.now() - jobs.c.created_at).label("age_s"),
    # Of tasks: whether a model was asked before, and the quotas of its caller, which has some of models.
    and_(jobs.c.task.is_not(None), exists().where(model_calls.c.job_id == jobs.c.id)).label("asked"),
    case(
        (
            jobs.c.task.is_not(None),
            select(callers.c.quotas).where(callers.c.id == jobs.c.caller_id).scalar_subquery(),
        )
    ).label("caller_quotas"),
)
#: Only steps that the worker serves.
_served = jobs.c.next_state == func.any(bindparam("b_states", type_=ARRAY(Text)))
_claim_values: dict[Any, Any] = {
    "state": jobs.c.next_state,
    "claims": jobs.c.claims + 1,
    "lease_token": bindparam("b_token", type_=Uuid),
    "lease_until": _lease_until,
    "leased_by": bindparam("b_worker", type_=Text),
    "started_at": func.coalesce(jobs.c.started_at, func.now()),
}

#: A program for another tier than the worker's is left to one that has it. Not said: any tier. Asking a model
#: needs none.
_my_tier = or_(
    jobs.c.next_state != State.RUNNING.value,
    jobs.c.runtime == func.any(bindparam("b_runtimes", [each.value for each in Runtime], type_=ARRAY(Text))),
)

# For `domain.fairness`, which chooses the job.
CLAIM_VALUES, CLAIMED_COLUMNS, SERVED = _claim_values, _claimed_columns, and_(_served, _my_tier)
JOB_OF_CLAIM = jobs.c.id == bindparam("b_id")

#: id, token, worker, states, runtimes -> the job, if it was queued for one of these states.
CLAIM: Executable = (
    update(jobs)
    .where(jobs.c.id == bindparam("b_id"), jobs.c.state == State.QUEUED.value, _served, _my_tier)
    .values(_claim_values)
    .returning(*_claimed_columns)
)


def _next_number(job_id: ColumnElement[Any]) -> ColumnElement[Any]:
    highest = select(func.max(attempts.c.number)).where(attempts.c.job_id == job_id).scalar_subquery()
    return func.coalesce(highest, 0) + 1


def _lost(*which: ColumnElement[bool]) -> CTE:
    """Jobs whose lease expired: the state and worker, read under the row lock before an update hides them."""
    return (
        select(jobs.c.id, jobs.c.leased_by, jobs.c.state, jobs.c.draft, jobs.c.round, jobs.c.task)
        .where(_expired, *which)
        .with_for_update(skip_locked=True)
        .cte("lost")
    )


def _record(lost: CTE) -> CTE:
    """Record the attempts that their workers took along."""
    return (
        insert(attempts)
        .from_select(
            ["job_id", "number", "failure", "worker", "code", "model", "round"],
            select(
                lost.c.id,
                _next_number(lost.c.id),
                literal("worker_lost"),
                lost.c.leased_by,
                lost.c.draft["code"].astext,
                lost.c.draft["model"].astext,
                case((lost.c.task.is_not(None), lost.c.round)),
            ).where(lost.c.state == State.RUNNING.value),
        )
        .cte("record")
    )


def _reclaim() -> Executable:
    lost = _lost(jobs.c.id == bindparam("b_id"), jobs.c.claims < MAX_CLAIMS, _served, _my_tier)
    return (
        update(jobs)
        .add_cte(_record(lost))
        .where(jobs.c.id == lost.c.id)
        .values(_claim_values)
        .returning(*_claimed_columns)
    )


#: The same for a job whose worker let its lease expire; records the lost attempt.
RECLAIM: Executable = _reclaim()

#: tokens, ids of their jobs -> the tokens that still hold; one that does not come back has lost its lease.
#: Where the answer to a claim was lost, another job may be claimed under the same token; that is not extended.
HEARTBEAT: Executable = (
    update(jobs)
    .where(
        jobs.c.lease_token == func.any(bindparam("tokens", type_=ARRAY(Uuid))),
        jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    )
    .values(lease_until=_lease_until)
    .returning(jobs.c.lease_token)
)

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
    number = cast(_next_number(moved.c.id), Integer)
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

#: id, token -> gives the claim back as if it had never been: nothing ran.
RELEASE: Executable = (
    update(jobs)
    .where(MINE)
    .values(state=State.QUEUED.value, claims=jobs.c.claims - 1, rung_at=func.now(), **NO_LEASE)
    .returning(jobs.c.id)
)

# --- sweeping -----------------------------------------------------------------------------------------


def _break_lost() -> Executable:
    lost = _lost(jobs.c.claims >= MAX_CLAIMS)
    return (
        update(jobs)
        .add_cte(_record(lost))
        .where(jobs.c.id == lost.c.id)
        .values(
            state=State.BROKEN.value,
            reason=f"its worker was lost {MAX_CLAIMS} times while it ran",
            finished_at=func.now(),
            **NO_LEASE,
        )
        .returning(jobs.c.id)
    )


#: Jobs whose workers were lost too often end; records the last lost attempt of each.
BREAK_LOST: Executable = _break_lost()


def _requeue_lost() -> Executable:
    lost = _lost(jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))), jobs.c.claims < MAX_CLAIMS)
    return (
        update(jobs)
        .add_cte(_record(lost))
        .where(jobs.c.id == lost.c.id)
        .values(state=State.QUEUED.value, **NO_LEASE)
        .returning(jobs.c.id)
    )


#: ids -> those whose lease expired: they wait again, and the lost attempts are recorded. While others wait, a
#: message leads to those, so a job that had to be claimed by its own message might never be.
REQUEUE_LOST: Executable = _requeue_lost()


def _full() -> ColumnElement[bool]:
    """Whether a job's caller runs as many as it may: ringing for it would wake a worker for nothing."""
    runs = jobs.alias("runs")
    full = (
        select(runs.c.caller_id)
        .join(callers, callers.c.id == runs.c.caller_id)
        .where(runs.c.lease_token.is_not(None), callers.c.most_running.is_not(None))
        .group_by(runs.c.caller_id, callers.c.most_running)
        .having(func.count() >= callers.c.most_running)
    )
    none = select(callers.c.id).where(callers.c.most_running == 0)
    return jobs.c.caller_id.in_(union_all(full, none))


#: The queues, and what waits in each: its priority, its next step, and the tier it runs on.
KINDS: dict[str, tuple[Priority, State, Runtime | None]] = {
    queue_of(state, priority, runtime or Runtime.RUNC): (priority, state, runtime)
    for priority in Priority
    for state, runtime in (
        (State.GENERATING, None),
        *((State.RUNNING, runtime) for runtime in Runtime),
    )
}


def patience_of(queue: str) -> str:
    """The parameter that has the seconds for a queue."""
    return f"after_s_{queue.replace('.', '_')}"


def _overdue() -> Executable:
    # Each kind by its own index: with `OR` between them every waiting job would be read and sorted.
    def oldest(name: str, *which: ColumnElement[bool]) -> CTE:
        return (
            select(jobs.c.id)
            .where(*which)
            .order_by(jobs.c.rung_at)
            .limit(bindparam("most", type_=Integer))
            .with_for_update(skip_locked=True)
            .cte(name)
        )

    def waiting(queue: str) -> CTE:
        priority, state, runtime = KINDS[queue]
        tier = () if runtime is None else (jobs.c.runtime == runtime.value,)
        return oldest(
            f"waiting_{queue.replace('.', '_')}",
            jobs.c.state == State.QUEUED.value,
            jobs.c.priority == priority.value,
            jobs.c.next_state == state.value,
            *tier,
            jobs.c.rung_at < _ago(bindparam(patience_of(queue), type_=Integer)),
            ~_full(),
        )

    kinds = (*map(waiting, KINDS), oldest("lost", _expired, jobs.c.rung_at < _ago(literal(5))))
    due = union_all(*(select(kind.c.id) for kind in kinds))
    return (
        update(jobs)
        # As an array: the planner looks few of them up, rather than joining with the whole table.
        .where(jobs.c.id == func.any(func.array(due.scalar_subquery())))
        .values(rung_at=func.now())
        .returning(jobs.c.id, jobs.c.next_state, jobs.c.priority, jobs.c.runtime)
    )


#: `patience_of` each queue, most -> jobs that nobody took within so many seconds of their last ring, and jobs
#: whose lease expired; at most `most` of each queue, the oldest first.
OVERDUE: Executable = _overdue()

#: runtimes, after_s: jobs that wait for a tier which has not been offered for so long end; nothing ran.
BREAK_STRANDED: Executable = (
    update(jobs)
    .where(
        jobs.c.state == State.QUEUED.value,
        jobs.c.next_state == State.RUNNING.value,
        jobs.c.runtime == func.any(bindparam("runtimes", type_=ARRAY(Text))),
        jobs.c.created_at < _ago(bindparam("after_s", type_=Integer)),
    )
    .values(
        state=State.BROKEN.value,
        reason=func.concat("no worker offers the runtime ", jobs.c.runtime),
        finished_at=func.now(),
    )
    .returning(jobs.c.id)
)

#: hours, most: forget what Idempotency-Keys made that long ago, the oldest first.
FORGET_KEYS: Executable = idempotency_keys.delete().where(
    tuple_(idempotency_keys.c.caller_id, idempotency_keys.c.key).in_(
        select(idempotency_keys.c.caller_id, idempotency_keys.c.key)
        .where(idempotency_keys.c.created_at < _ago(bindparam("hours", type_=Integer) * 3600))
        .order_by(idempotency_keys.c.created_at)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
    )
)

# --- workers ------------------------------------------------------------------------------------------


def _report() -> Executable:
    said = pg_insert(workers).values(
        instance=bindparam("instance"),
        ready=bindparam("ready"),
        why_not=bindparam("why_not"),
        facts=bindparam("facts"),
    )
    return said.on_conflict_do_update(
        index_elements=[workers.c.instance],
        set_={
            "seen_at": func.now(),
            "ready": said.excluded.ready,
            "why_not": said.excluded.why_not,
            "facts": said.excluded.facts,
        },
    )


#: instance, ready, why_not, facts: a worker says how it is. Workers repeat this every few seconds.
REPORT_WORKER: Executable = _report()

#: instance: a worker leaves.
FORGET_WORKER: Executable = workers.delete().where(workers.c.instance == bindparam("b_instance"))

#: Seconds after which a silent worker counts as gone.
WORKER_SILENT_S = 6

#: The workers that spoke lately.
LIVE_WORKERS: Select[Any] = select(workers).where(
    workers.c.seen_at > func.now() - text(f"interval '{WORKER_SILENT_S} seconds'"),
)

# --- files and artifacts ------------------------------------------------------------------------------

#: ids, caller_id -> those of the uploaded files that are the caller's.
FILES_OF_CALLER: Executable = select(files.c.id, files.c.size, files.c.sha256).where(
    files.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    files.c.caller_id == bindparam("caller_id"),
)

_ids = ARRAY(Uuid)

#: ids -> those of them that are artifacts, or uploaded files.
ARTIFACTS_AMONG: Executable = select(artifacts.c.id).where(
    artifacts.c.id == func.any(bindparam("ids", type_=_ids))
)
FILES_AMONG: Executable = select(files.c.id).where(files.c.id == func.any(bindparam("ids", type_=_ids)))

#: As the two partial indexes say it: few jobs have not ended, among however many that have.
UNFINISHED: ColumnElement[bool] = or_(
    jobs.c.state == literal_column(f"'{State.QUEUED.value}'"), jobs.c.lease_token.is_not(None)
)


def _days_ago(created_at: ColumnElement[Any]) -> ColumnElement[bool]:
    return created_at < func.now() - func.make_interval(0, 0, 0, bindparam("days", type_=Integer))


def _expire_artifacts() -> Executable:
    old = (
        select(artifacts.c.id)
        .join(jobs)
        .where(_days_ago(artifacts.c.created_at), ~UNFINISHED)
        # Those of an attempt in the order in which streams tell them: `api.progress` relies on that.
        .order_by(artifacts.c.created_at, artifacts.c.job_id, artifacts.c.attempt, artifacts.c.name)
        .limit(bindparam("most", type_=Integer))
    )
    return delete(artifacts).where(artifacts.c.id.in_(old)).returning(artifacts.c.id)


#: days, most -> artifacts of that age, now without a row; not of jobs that have not ended.
EXPIRE_ARTIFACTS: Executable = _expire_artifacts()


def _expire_files(*which: ColumnElement[bool]) -> Executable:
    use = func.jsonb_build_array(func.jsonb_build_object("file", cast(files.c.id, Text)))
    needed = select(jobs.c.id).where(UNFINISHED, jobs.c.files.contains(use))
    old = (
        select(files.c.id)
        .where(_days_ago(files.c.created_at), ~exists(needed.correlate(files)), *which)
        .limit(bindparam("most", type_=Integer))
    )
    return delete(files).where(files.c.id.in_(old)).returning(files.c.id)


#: days, most -> uploaded files of that age, now without a row; not those that an unfinished job needs.
EXPIRE_FILES: Executable = _expire_files()

#: caller_id, days, most -> the same of one caller.
EXPIRE_FILES_OF: Executable = _expire_files(files.c.caller_id == bindparam("caller_id", type_=Uuid))
