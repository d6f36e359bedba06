"""What a worker's statements do while a database has no room left. `make faults` has a disk that is full."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.harness import Jobs
from worker.store import Store

ASK = text("SELECT full_twice() AS pid")


@pytest.fixture
def full(jobs_table: Jobs) -> Iterator[None]:
    """A function that fails twice, as what finds no room does; then it tells the connection."""
    with jobs_table.engine.connect() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE tries")
        connection.exec_driver_sql(
            "CREATE FUNCTION full_twice() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
            " IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END IF;"
            " RETURN pg_backend_pid(); END $$"
        )
        yield
        connection.exec_driver_sql("DROP FUNCTION full_twice; DROP SEQUENCE tries")


@pytest.mark.usefixtures("full")
def test_a_result_waits_for_room_on_the_connection_that_there_is(store: Store) -> None:
    before = store.first(text("SELECT pg_backend_pid() AS pid"), {})
    after = store.first(ASK, {})
    assert before is not None
    assert after is not None
    assert after.pid == before.pid


@pytest.mark.usefixtures("full")
def test_a_question_waits_for_room(store: Store) -> None:
    assert len(store.all(ASK, {})) == 1
