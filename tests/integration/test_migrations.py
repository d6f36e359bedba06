"""Migrations on a fresh database, and what the database itself refuses."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, func, insert, inspect, make_url, select, text, update
from sqlalchemy.exc import IntegrityError

from domain.states import FINAL_STATES, LEASED_STATES, MOVES, State, Verdict
from domain.tables.attempt import attempts
from domain.tables.base import metadata
from domain.tables.caller import callers
from domain.tables.job import jobs
from tests.conftest import ROOT
from tests.harness import Jobs

CONFIG = ROOT / "migrations" / "alembic.ini"


@pytest.fixture
def fresh(database_url: str) -> Iterator[Engine]:
    """An empty database beside the tests' own."""
    name = f"fresh_{uuid4().hex[:10]}"
    server = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine = create_engine(make_url(database_url).set(database=name))
    yield engine
    engine.dispose()
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


def alembic(engine: Engine, step: Callable[[Config, str], None], revision: str) -> None:
    """Run an Alembic command on a database."""
    config = Config(CONFIG)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        step(config, revision)


def everything(engine: Engine) -> dict[str, Any]:
    """Tables, functions and triggers of ours that a database has."""
    with engine.connect() as connection:
        functions = connection.execute(
            text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"),
        )
        triggers = connection.execute(text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"))
        return {
            "tables": sorted(set(inspect(connection).get_table_names()) - {"alembic_version"}),
            "functions": sorted(row.proname for row in functions),
            "triggers": sorted(row.tgname for row in triggers),
        }


def test_up_down_and_up_again(fresh: Engine) -> None:
    nothing: dict[str, list[str]] = {"tables": [], "functions": [], "triggers": []}
    assert everything(fresh) == nothing
    alembic(fresh, command.upgrade, "head")
    first = everything(fresh)
    assert first["tables"] == sorted(metadata.tables)
    alembic(fresh, command.downgrade, "base")
    assert everything(fresh) == nothing
    alembic(fresh, command.upgrade, "head")
    assert everything(fresh) == first
    alembic(fresh, command.upgrade, "head")  # nothing to do
    assert everything(fresh) == first


def test_the_tables_are_those_that_the_migrations_build(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True},
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_checks_are_those_that_the_migrations_build(fresh: Engine, database_url: str) -> None:
    """Alembic does not compare check constraints, so the database is asked for both spellings."""
    query = text(
        "SELECT conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid) AS line "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype = 'c'",
    )
    metadata.create_all(fresh)
    migrated = create_engine(database_url)
    with fresh.connect() as one, migrated.connect() as other:
        wanted = {row.line for row in one.execute(query)}
        assert {row.line for row in other.execute(query)} == wanted
    migrated.dispose()


def test_there_is_one_line_of_migrations() -> None:
    script = ScriptDirectory.from_config(Config(CONFIG))
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1


def test_a_worker_of_the_version_before_goes_on_beside_a_new_column(fresh: Engine) -> None:
    """What 0011 adds may be missing, in rows that are there and in those that an older worker writes."""
    caller, job = uuid4(), uuid4()

    def write(number: int) -> None:
        with fresh.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO attempts (job_id, number, verdict, wall_s) VALUES (%s, %s, 'ok', 1)", (job, number)
            )

    alembic(fresh, command.upgrade, "0010")
    with fresh.begin() as connection:
        connection.exec_driver_sql("INSERT INTO callers (id, name) VALUES (%s, 'somebody')", (caller,))
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, caller_id, code, language, profile, limits) "
            "VALUES (%s, %s, '1', 'rust', 'standard', '{}')",
            (job, caller),
        )
    write(1)
    alembic(fresh, command.upgrade, "0011")
    write(2)
    with fresh.connect() as connection:
        rows = connection.execute(select(attempts.c.wall_s, attempts.c.compile_s))
        assert rows.all() == [(1, None), (1, None)]
    alembic(fresh, command.downgrade, "0010")
    write(3)


def test_the_migration_has_the_moves_of_the_domain() -> None:
    migration = importlib.import_module("migrations.versions.0001_spine")
    theirs = {State(old): frozenset(map(State, new)) for old, new in migration.MOVES.items()}
    assert theirs == {state: to for state, to in MOVES.items() if to}


# --- what the database refuses ------------------------------------------------------------------------


@pytest.fixture
def connection(clean_tables: None, database_url: str) -> Iterator[Connection]:
    """A transaction that is undone."""
    engine = create_engine(database_url)
    with engine.connect() as opened:
        yield opened
        opened.rollback()
    engine.dispose()


@pytest.fixture
def caller(connection: Connection) -> UUID:
    """A caller."""
    caller = uuid4()
    connection.execute(insert(callers), {"id": caller, "name": "somebody"})
    return caller


def standing(state: State) -> dict[str, Any]:
    """The columns that go with a state."""
    leased = state in LEASED_STATES
    return {
        "state": state.value,
        "verdict": Verdict.OK.value if state is State.FINISHED else None,
        "lease_token": uuid4() if leased else None,
        "lease_until": func.now() if leased else None,
        "finished_at": func.now() if state in FINAL_STATES else None,
    }


def put(connection: Connection, caller: UUID, **values: Any) -> UUID:
    """A job with these columns."""
    usual = {"id": uuid4(), "caller_id": caller, "code": "1", "language": "python"}
    row = {**usual, "profile": "standard", "limits": {}, **values}
    connection.execute(insert(jobs).values(row))
    job_id: UUID = row["id"]
    return job_id


def change(connection: Connection, job_id: UUID, **values: Any) -> None:
    """Change columns of a job; the transaction survives a refusal."""
    with connection.begin_nested():
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def refused(by: str) -> Any:
    """That the database refuses, and which of its rules does."""
    return pytest.raises(IntegrityError, match=by)


PAIRS = [(old, new) for old in State for new in State if old is not new]


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=lambda state: state.value)
def test_moves(connection: Connection, caller: UUID, old: State, new: State) -> None:
    job_id = put(connection, caller, **standing(old))
    if new in MOVES[old]:
        change(connection, job_id, **standing(new))
        return
    with refused("cannot move") as failed:
        change(connection, job_id, **standing(new))
    assert failed.value.orig.diag.constraint_name == "jobs_move"


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_staying_is_allowed(connection: Connection, caller: UUID, state: State) -> None:
    job_id = put(connection, caller, **standing(state))
    change(connection, job_id, state=state.value)


@pytest.mark.parametrize(
    "verdict", [v for v in Verdict if v is not Verdict.OK], ids=lambda verdict: verdict.value
)
def test_a_verdict_is_never_changed(connection: Connection, caller: UUID, verdict: Verdict) -> None:
    job_id = put(connection, caller, **standing(State.FINISHED))
    with refused("cannot move"):
        change(connection, job_id, verdict=verdict.value)
    change(connection, job_id, verdict=Verdict.OK.value)  # the same


def test_nobody_finishes_a_job_twice(connection: Connection, caller: UUID) -> None:
    job_id = put(connection, caller, **standing(State.RUNNING))
    change(connection, job_id, **standing(State.FINISHED))
    with refused("cannot move"):
        change(connection, job_id, **{**standing(State.FINISHED), "verdict": Verdict.ERROR.value})


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("lease_token", uuid4(), "lease_iff_leased"),
        ("verdict", Verdict.OK.value, "verdict_iff_finished"),
        ("finished_at", func.now(), "finished_at_iff_final"),
    ],
)
def test_columns_that_go_with_a_state(
    connection: Connection,
    caller: UUID,
    state: State,
    column: str,
    value: Any,
    rule: str,
) -> None:
    right = standing(state)
    put(connection, caller, **right)
    wrong = {**right, column: None if right[column] is not None else value}
    with refused(rule):
        put(connection, caller, **wrong)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"code": None, "task": None}, "code_or_task"),
        ({"code": "1", "task": "do"}, "code_or_task"),
        ({"reuse": "always"}, "reuse"),
        ({"state": "paused"}, "ck_jobs_state"),
        ({**standing(State.FINISHED), "verdict": "great"}, "ck_jobs_verdict"),
        ({"caller_id": uuid4()}, "fk_jobs_caller_id"),
    ],
)
def test_what_no_job_is(connection: Connection, caller: UUID, values: dict[str, Any], rule: str) -> None:
    with refused(rule):
        put(connection, caller, **values)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"verdict": None, "failure": None}, "verdict_or_failure"),
        ({"verdict": "ok", "failure": "engine"}, "verdict_or_failure"),
        ({"verdict": "great"}, "ck_attempts_verdict"),
        ({"verdict": "ok", "sandbox_start": "lukewarm"}, "sandbox_start"),
        ({"verdict": "ok", "job_id": uuid4()}, "fk_attempts_job_id"),
    ],
)
def test_what_no_attempt_is(connection: Connection, caller: UUID, values: dict[str, Any], rule: str) -> None:
    job_id = put(connection, caller)
    with refused(rule):
        connection.execute(insert(attempts).values({"job_id": job_id, "number": 1, **values}))


def test_a_caller_takes_everything_along(jobs_table: Jobs) -> None:
    job_id = jobs_table.add()
    with jobs_table.engine.connect() as connection:
        connection.execute(insert(attempts), {"job_id": job_id, "number": 1, "verdict": "ok"})
        connection.execute(callers.delete().where(callers.c.id == jobs_table.caller()))
    assert jobs_table.outputs() == {}
    assert jobs_table.count(*State) == 0
