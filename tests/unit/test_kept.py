"""What is kept of too much output."""

from hypothesis import example, given
from hypothesis import strategies as st

from worker.sandbox import kept

SIZES = st.integers(0, 5000)


@given(SIZES, SIZES, SIZES)
def test_shares_are_all_of_the_room_and_no_more_than_there_is(stdout: int, stderr: int, most: int) -> None:
    of_stdout, of_stderr = kept.shares(stdout, stderr, most)
    assert of_stdout + of_stderr == min(most, stdout + stderr) or stdout + stderr < most
    assert 0 <= of_stdout <= stdout
    assert 0 <= of_stderr <= stderr
    # Neither stream can crowd the other out.
    assert of_stdout >= min(stdout, most // 2)
    assert of_stderr >= min(stderr, most // 2)


@given(st.binary(max_size=300), st.integers(0, 400))
@example("é".encode() * 100, 101)
def test_head_and_tail_are_the_ends_of_what_was_written(written: bytes, most: int) -> None:
    found, head = kept.cut(written, most)
    assert len(found) <= most or head is None
    if head is None:
        assert found == written
        assert len(written) <= most
        return
    tail = len(found) - head
    assert found == written[:head] + written[len(written) - tail :]
    assert len(found) >= most - 6  # two characters may be cut


@given(st.text(max_size=300), st.integers(8, 200))
def test_text_stays_text(text: str, most: int) -> None:
    found, _ = kept.cut(text.encode(), most)
    shown = found.decode()
    assert text.startswith(shown[: len(shown) // 4])


def test_exactly_at_the_limit_nothing_is_cut() -> None:
    assert kept.cut(b"abcd", 4) == (b"abcd", None)
    assert kept.cut(b"abcde", 4) == (b"abde", 2)


def test_what_is_no_text_is_cut_at_the_byte() -> None:
    assert kept.cut(b"\xff" * 10, 4) == (b"\xff" * 4, 2)
    assert kept.cut(b"\x80" * 10, 4) == (b"\x80" * 4, 2)
