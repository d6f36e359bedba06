"""The claim of a job: by its id, whether it waits or its worker let its lease expire."""

from typing import Any

from sqlalchemy import Executable, Text, Uuid, and_, bindparam, case, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from domain.bell import MAX_CLAIMS
from domain.leasing import LEASE_UNTIL
from domain.losing import lost_jobs, record_lost
from domain.states import Runtime, State
from domain.tables.attempt import model_calls
from domain.tables.caller import callers
from domain.tables.job import jobs

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
    "lease_until": LEASE_UNTIL,
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


def _reclaim() -> Executable:
    lost = lost_jobs(jobs.c.id == bindparam("b_id"), jobs.c.claims < MAX_CLAIMS, _served, _my_tier)
    return (
        update(jobs)
        .add_cte(record_lost(lost))
        .where(jobs.c.id == lost.c.id)
        .values(_claim_values)
        .returning(*_claimed_columns)
    )


#: The same for a job whose worker let its lease expire; records the lost attempt.
RECLAIM: Executable = _reclaim()
