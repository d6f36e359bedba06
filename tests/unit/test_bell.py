"""What API and worker agree on about the broker."""

import asyncio

import pytest

from api.bell import Bell, producer
from domain.bell import LEASE_S, MAX_CLAIMS, Output, celery_broker_url, parse_state_message, state_message
from domain.ids import new_id
from domain.states import State


@pytest.mark.parametrize("state", State)
def test_a_state_message_is_read_as_it_was_written(state: State) -> None:
    job_id = new_id()
    assert parse_state_message(state_message(job_id, state)) == (job_id, state)


@pytest.mark.parametrize("message", ["", " ", "running", "not-an-id running", "running not-an-id"])
def test_what_is_no_state_message_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        parse_state_message(message)


@pytest.mark.parametrize(
    ("ours", "celerys"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:secret@host/2", "rediss://user:secret@host/2"),
        ("unix:///run/v.sock", "redis+socket:///run/v.sock?virtual_host=0"),
        ("unix:///run/v.sock?db=3", "redis+socket:///run/v.sock?virtual_host=3"),
    ],
)
def test_the_broker_as_celery_spells_it(ours: str, celerys: str) -> None:
    assert celery_broker_url(ours) == celerys


def test_the_promised_numbers() -> None:
    assert (LEASE_S, MAX_CLAIMS) == (30, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"attempt": b"1", b"stream": b"stdin", b"at": b"0", b"data": b""},
        {b"attempt": b"one", b"stream": b"stdout", b"at": b"0", b"data": b""},
        {b"attempt": b"1", b"stream": b"\xff", b"at": b"0", b"data": b""},
    ],
)
def test_what_is_no_output_is_told(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (any of its kinds)
        Output.parse(fields)


class Heard:
    """A Redis that only notes on which queues it was rung."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, int]] = []

    async def lpush(self, queue: str, *messages: str) -> None:
        """Note it."""
        self.rung.append((queue, len(messages)))


def test_batch_work_rings_after_all_others_and_in_small_portions() -> None:
    heard = Heard()
    bell = Bell(heard, producer("redis://127.0.0.1:6379/0"))  # type: ignore[arg-type]
    for _ in range(60):
        bell.ring(new_id(), "sandbox.batch")
    bell.ring(new_id(), "sandbox")
    asyncio.run(bell.flush())
    assert heard.rung == [("sandbox", 1), ("sandbox.batch", 25), ("sandbox.batch", 25), ("sandbox.batch", 10)]
