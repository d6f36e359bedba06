"""The rows of uploaded files and of artifacts: whose they are, which there are, which are too old."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Text,
    Uuid,
    bindparam,
    cast,
    delete,
    exists,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from domain.job_statements import UNFINISHED
from domain.tables.attempt import artifacts
from domain.tables.caller import files
from domain.tables.job import jobs

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
