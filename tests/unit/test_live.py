"""What is published of a running job's output, and what is not."""

from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bell import Output
from domain.ids import new_id
from worker import live
from worker.live import JOB_BYTES, MESSAGE_BYTES, ROUND_BYTES, Live, Watched

JOB = new_id()


class Board:
    """Takes what is published."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.shown: list[Output] = []

    def show(self, job_id: UUID, parts: list[Output]) -> bool:
        """Whether it was taken."""
        assert job_id == JOB
        self.shown += parts
        return self.works


def test_a_short_job_publishes_nothing() -> None:
    board = Board()
    shown = Live(board)
    with shown.watching(JOB, 1) as watched:
        watched.note("stdout", b"quick")
        shown.step()
    shown.step()
    assert board.shown == []


def test_a_longer_job_publishes_all_that_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    shown = Live(board)
    with shown.watching(JOB, 2) as watched:
        watched.note("stdout", b"one ")
        watched.note("stdout", b"two")
        watched.note("stderr", b"but")
        monkeypatch.setattr(live, "AFTER_S", -1.0)
        shown.step()
        watched.note("stdout", b" three")
        shown.step()
        shown.step()
    assert board.shown == [
        Output(2, "stdout", 0, b"one two"),
        Output(2, "stderr", 0, b"but"),
        Output(2, "stdout", 7, b" three"),
    ]


def test_a_broker_that_is_away_is_not_asked_again_for_this_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "AFTER_S", -1.0)
    board = Board(works=False)
    shown = Live(board)
    with shown.watching(JOB, 1) as watched:
        for _ in range(3):
            watched.note("stdout", b"x")
            shown.step()
    assert len(board.shown) == 1


STREAMS = st.sampled_from(["stdout", "stderr"])
WRITTEN = st.lists(st.tuples(STREAMS, st.integers(1, 3 * MESSAGE_BYTES)), max_size=20)


@given(st.lists(WRITTEN, max_size=30))
def test_parts_are_bounded_and_where_they_say(rounds: list[list[tuple[str, int]]]) -> None:
    watched = Watched(JOB, 1)
    written = {"stdout": b"", "stderr": b""}
    published = 0
    for chunks in rounds:
        for stream, size in chunks:
            chunk = bytes((len(written[stream]) + n) % 251 for n in range(size))
            written[stream] += chunk
            watched.note(stream, chunk)
        parts = watched.take()
        assert sum(part.size for part in parts) <= ROUND_BYTES
        published += sum(part.size for part in parts)
        for part in parts:
            assert 0 < part.size <= MESSAGE_BYTES + MESSAGE_BYTES // 2
            assert written[part.stream][part.at : part.end] == part.data
        for stream in written:
            ours = [part for part in parts if part.stream == stream]
            assert all(one.end <= other.at for one, other in pairwise(ours))
    assert published <= JOB_BYTES
    assert watched.take() == []
