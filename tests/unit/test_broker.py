"""How Celery is set up, and the doorbell when nobody hears it."""

from pathlib import Path

import pytest
from celery import Celery
from kombu.transport import get_transport_cls

from domain.bell import ADVANCE, SANDBOX_QUEUE
from domain.ids import new_id
from domain.states import State
from worker.broker import Bell, celery_app
from worker.places import Transport

URL = "redis://127.0.0.1:1/0"  # nobody listens


@pytest.fixture
def app() -> Celery:
    return celery_app(URL)


def test_messages_are_acknowledged_late_and_taken_one_at_a_time(app: Celery) -> None:
    assert app.conf.task_acks_late is True
    assert app.conf.worker_prefetch_multiplier == 1
    # A step that fails is acknowledged: the sweeper, not the broker, decides what is still to be done.
    assert app.conf.task_acks_on_failure_or_timeout is True


def test_only_json_is_spoken(app: Celery) -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"


def test_nothing_is_stored_or_broadcast(app: Celery) -> None:
    assert app.conf.result_backend is None
    assert app.conf.task_ignore_result is True
    assert app.conf.worker_send_task_events is False
    assert app.conf.task_send_sent_event is False
    assert app.conf.worker_enable_remote_control is False


def test_celery_ends_no_step_by_itself(app: Celery) -> None:
    assert app.conf.task_time_limit is None
    assert app.conf.task_soft_time_limit is None
    assert app.conf.worker_cancel_long_running_tasks_on_connection_loss is False


def test_the_broker_keeps_no_books_of_messages(app: Celery) -> None:
    """What it would hand out again after an hour, the sweeper rings for after seconds."""
    assert app.conf.broker_transport_options["ack_emulation"] is False


@pytest.mark.parametrize("url", [URL, "rediss://127.0.0.1:1/0", "unix:///nonexistent/valkey.sock?db=0"])
def test_batch_work_has_its_places_however_the_broker_is_named(url: str) -> None:
    """Also where kombu's own way to read from Redis is known to the process already."""
    get_transport_cls("redis")
    connection = celery_app(url, batch_most=3).connection_for_read()
    assert isinstance(connection.transport, Transport)
    assert connection.transport_options["batch_most"] == 3


def test_a_process_may_have_more_than_one_app(app: Celery) -> None:
    assert not celery_app(URL).set_as_current
    assert app.conf.task_default_queue == SANDBOX_QUEUE
    assert ADVANCE not in app.tasks  # nothing is registered before the entry point does it


@pytest.mark.parametrize("url", [URL, "unix:///nonexistent/valkey.sock?db=0"])
def test_a_broker_that_is_away_fails_nobody(url: str) -> None:
    bell = Bell(celery_app(url), url)
    assert not bell.ring(new_id())
    bell.tell(new_id(), State.FINISHED)
    assert bell.waiting() is None
    bell.close()


def test_a_socket_that_says_nothing_fails_nobody(tmp_path: Path) -> None:
    """A broker that is not one."""
    (tmp_path / "not-a-socket").write_text("")
    url = f"unix://{tmp_path}/not-a-socket?db=0"
    bell = Bell(celery_app(url), url)
    assert not bell.ring(new_id())
    assert bell.waiting() is None
    bell.close()
