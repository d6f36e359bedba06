"""Server-sent events, however the bytes are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.model.sse import Events

STREAM = (
    "\ufeff: hello\r\nevent: a\r\ndata: one\r\ndata:two\r\n\r\n"
    "id: 7\ndata: ü\n\n\rdata: x\r\revent: none\n\ndata: y\n\n"
)
WANTED = [("a", "one\ntwo"), ("", "ü"), ("", "x"), ("", "y")]


def read(chunks: list[bytes]) -> list[tuple[str, str]]:
    """All events of these chunks."""
    events = Events()
    return [event for chunk in chunks for event in events.feed(chunk)] + list(events.close())


@given(st.lists(st.integers(0, len(STREAM.encode()))))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    data = STREAM.encode()
    places = [0, *sorted(cuts), len(data)]
    assert read([data[a:b] for a, b in pairwise(places)]) == WANTED


def test_byte_by_byte() -> None:
    assert read([bytes([byte]) for byte in STREAM.encode()]) == WANTED


def test_an_end_without_its_empty_line() -> None:
    assert read([b"data: a\n\ndata: b"]) == [("", "a"), ("", "b")]


@given(st.lists(st.binary()))
def test_anything_can_be_fed(chunks: list[bytes]) -> None:
    assert read(chunks) == read([b"".join(chunks)])
