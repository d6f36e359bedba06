"""Jobs as the API stores and sees them: the statements that neither move nor end one."""

from sqlalchemy import ColumnElement, Executable, and_, bindparam, insert, literal_column, or_, select

from domain.states import State
from domain.tables.job import jobs

#: Columns of `jobs` as parameters. Gives `created_at` back.
INSERT_JOB: Executable = insert(jobs).returning(jobs.c.created_at)

_job_of_caller = and_(jobs.c.id == bindparam("id"), jobs.c.caller_id == bindparam("caller_id"))

#: id, caller_id -> the job's state alone: what a waiting client polls.
GET_STATE: Executable = select(jobs.c.state).where(_job_of_caller)

#: As the two partial indexes say it: few jobs have not ended, among however many that have.
UNFINISHED: ColumnElement[bool] = or_(
    jobs.c.state == literal_column(f"'{State.QUEUED.value}'"), jobs.c.lease_token.is_not(None)
)
