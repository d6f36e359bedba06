"""How the database goes about a claim: its plans, and the rows that it looks at."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Executable

from domain.sessions import PLANNED
from domain.states import Runtime
from tests.harness import Jobs


def claim_of(job_id: UUID) -> dict[str, Any]:
    """Parameters of a claim."""
    tiers = {"b_runtimes": [each.value for each in Runtime]}
    return {"b_id": job_id, "b_token": uuid4(), "b_worker": "w", "b_states": ["running"], **tiers}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's steps."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def planned(connection: Connection) -> None:
    """Have what follows in this transaction be planned as in a session that claims."""
    for name, value in PLANNED.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")


def rows_read(
    jobs_table: Jobs, statement: Any, parameters: dict[str, Any], after: Executable | None = None
) -> int:
    """How many rows of `jobs` a statement looks at, after another one in the same transaction."""
    engine = jobs_table.engine
    compiled = statement.compile(dialect=engine.dialect)
    values = {**compiled.params, **parameters}
    with engine.execution_options(isolation_level="READ COMMITTED").connect() as connection:
        planned(connection)
        if after is not None:
            connection.execute(after, parameters)
        explained = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}", values
        ).scalar_one()
        connection.rollback()
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in nodes(explained[0]["Plan"])
        if node.get("Relation Name") == "jobs"
    )
