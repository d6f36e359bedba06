"""What workers say of themselves."""

from typing import Any

from sqlalchemy import Executable, Select, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert as pg_insert

from domain.tables.worker import workers


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
