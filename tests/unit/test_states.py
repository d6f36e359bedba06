"""States, moves, verdicts."""

from domain.states import FINAL_STATES, LEASED_STATES, MOVES, State, Verdict


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


def test_final_states_are_those_that_nothing_leaves() -> None:
    assert {state for state, to in MOVES.items() if not to} == FINAL_STATES


def test_a_job_is_waiting_leased_or_final() -> None:
    assert not FINAL_STATES & LEASED_STATES
    assert set(State) - FINAL_STATES - LEASED_STATES == {State.QUEUED}


def test_every_unfinished_state_reaches_every_other_end() -> None:
    for state in set(State) - FINAL_STATES:
        assert {State.CANCELLED, State.BROKEN} <= MOVES[state]
    for state in LEASED_STATES:
        assert {State.FINISHED, State.QUEUED} <= MOVES[state]


def test_nothing_finishes_that_nobody_ran() -> None:
    assert State.FINISHED not in MOVES[State.QUEUED]


def test_staying_is_not_a_move() -> None:
    assert all(state not in to for state, to in MOVES.items())


def test_words_are_what_is_stored() -> None:
    assert [state.value for state in State] == [state.name.lower() for state in State]
    assert [verdict.value for verdict in Verdict] == [verdict.name.lower() for verdict in Verdict]
