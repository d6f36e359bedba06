"""Tasks longer than a model takes: how they are cut, asked about and told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model import context, reading
from worker.model.rules import RefineRules

RULES = RefineRules()


@given(st.text(st.sampled_from("ab. \né日"), min_size=1, max_size=40), st.integers(7_000, 300_000))
def test_every_question_fits_with_its_answer(piece: str, window: int) -> None:
    text = piece * (150_000 // len(piece))
    notes = "n" * 4 * RULES.notes_tokens
    for chunk in reading.cut(RULES, text, window):
        asked = context.input_tokens(reading.question(chunk, notes), reading.system(chunk))
        # An uneven text may have more bytes in one chunk than in another.
        assert asked + RULES.notes_tokens <= window * 1.05


@pytest.mark.parametrize(
    ("length", "window", "chunks"),
    [
        (40_000, 8_000, 4),
        (40_000, 20_000, 0),  # one chunk: what is too long then is not the task
        (400_000, 8_000, 0),  # more than the rules allow
        (40_000, 5_500, 0),  # no room beside the notes
        (40_000, 0, 0),
    ],
)
def test_how_many(length: int, window: int, chunks: int) -> None:
    assert len(reading.cut(RULES, "word " * (length // 5), window)) == chunks


def test_a_chunk_is_never_longer_than_180_000_tokens() -> None:
    cut = reading.cut(RULES, "A sentence. " * 100_000, 1_000_000)
    assert [len(each.text) <= 4 * 180_000 for each in cut] == [True, True]
    assert cut[0].end - cut[1].start <= 4 * 2_000


def test_what_is_asked_and_told() -> None:
    one, two, *_ = reading.cut(RULES, "word " * 8_000, 8_000)
    assert "Processing chunk 1 of 4. Maintain context." in reading.system(one)
    assert reading.question(one, "")[0].content.startswith("Chunk 1 of 4:\nword")
    assert reading.question(two, "notes")[0].content.startswith("Notes on the chunk before:\nnotes\n\nChunk 2")
    told = reading.digest("begin" + "x" * 9_000 + "end", ["first ", "second"])
    assert "It begins:\nbegin" in told
    assert "[1]\nfirst\n\n[2]\nsecond\n\nIt ends:\n" in told
    assert told.endswith("end")


def test_chunks_are_known_by_their_calls() -> None:
    (one, *_) = reading.cut(RULES, "word " * 8_000, 8_000)
    assert reading.marked({"max_tokens": 1, **reading.mark(one)}) == (1, 4)
    assert reading.marked({"max_tokens": 1}) is None
