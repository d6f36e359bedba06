"""Long input: the estimate, the check, and chunks that never exceed their limit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import Model
from worker.model.context import chunks, estimate_tokens, input_tokens, room_for
from worker.model.types import Message


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("x" * 400, 100), ("x" * 401, 101), ("日本語", 3)]
)
def test_the_estimate(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_a_conversation_counts_its_system_prompt_and_each_message() -> None:
    messages = (Message("user", "x" * 400), Message("assistant", "x" * 40))
    assert input_tokens(messages) == 110 + 2 * 4
    assert input_tokens(messages, "x" * 4) == 110 + 1 + 3 * 4


def test_room() -> None:
    model = Model("m", context_tokens=1000)
    assert room_for(model, 900, 100) is None
    assert (
        room_for(model, 901, 100)
        == "about 901 tokens of question and 100 of answer do not fit its context of 1,000"
    )
    assert room_for(Model("m"), 10**9, 1) is None


texts = st.text(st.sampled_from("ab. \n!?é"), max_size=400)


@given(texts, st.integers(1, 60), st.integers(0, 59), st.integers(0, 80))
def test_no_chunk_is_too_long_and_nothing_is_lost(text: str, most: int, overlap: int, back: int) -> None:
    overlap = min(overlap, most - 1)
    cut = chunks(text, most_chars=most, overlap_chars=overlap, look_back_chars=back)
    assert all(0 < len(each.text) <= most for each in cut)
    assert all(each.text == text[each.start : each.end] for each in cut)
    assert [each.number for each in cut] == list(range(1, len(cut) + 1))
    assert all(each.of == len(cut) for each in cut)
    assert (cut[0].start, cut[-1].end) == (0, len(text)) if text else cut == ()
    for before, after in pairwise(cut):
        assert before.start < after.start  # it gets on
        assert before.end - overlap <= after.start <= before.end  # no gap, and no more overlap than wanted
        assert before.end < after.end


@given(texts, st.integers(1, 50))
def test_without_overlap_the_chunks_are_the_text(text: str, most: int) -> None:
    assert "".join(each.text for each in chunks(text, most_chars=most, overlap_chars=0)) == text


@pytest.mark.parametrize(
    ("end", "then"),
    [
        ("First part.\n\n", "b" * 60),  # a paragraph before all else
        ("One. Two.\n", "b" * 60),
        ("One. Two. ", "b" * 60),
        ("one two\n", "b" * 60),
        ("one two ", "b" * 60),
    ],
)
def test_a_chunk_ends_at_the_best_place(end: str, then: str) -> None:
    first, *_ = chunks(end + then, most_chars=40, overlap_chars=0, look_back_chars=40)
    assert first.text == end


def test_a_paragraph_wins_over_a_later_sentence() -> None:
    text = "Paragraph one.\n\nA sentence. Another one goes on and on"
    first, *_ = chunks(text, most_chars=40, overlap_chars=0, look_back_chars=40)
    assert first.text == "Paragraph one.\n\n"
    near, *_ = chunks(text, most_chars=40, overlap_chars=0, look_back_chars=15)  # the paragraph is too far back
    assert near.text == "Paragraph one.\n\nA sentence. "


def test_the_usual_size_is_180000_tokens_with_2000_of_overlap() -> None:
    sentence = "All work and no play makes Jack a dull boy. "
    cut = chunks(sentence * 40_000)
    assert len(cut) == 3
    assert all(719_000 - 8_000 <= len(each.text) <= 720_000 for each in cut[:-1])
    assert all(each.text.endswith(". ") for each in cut)
    assert all(0 < before.end - after.start <= 8_000 for before, after in pairwise(cut))
    assert cut[1].system == "Processing chunk 2 of 3. Maintain context."


@pytest.mark.parametrize(("most", "overlap"), [(0, 0), (10, 10), (10, 11), (10, -1)])
def test_an_overlap_that_leaves_no_room(most: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        chunks("text", most_chars=most, overlap_chars=overlap)
