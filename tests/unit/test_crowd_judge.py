"""The judge of crowds sees what it must see."""

from dataclasses import replace
from typing import Any

import pytest

from tests.crowd.judge import Rules, Seen, judge

RULES = Rules(window_s=1.0, requests=3, tokens=1000, at_once=2, retries=2, threshold=2)


def asked(question: str, at: float, status: int = 200, lasts: float = 0.01, **more: Any) -> Seen:
    """A request."""
    seen = Seen(question, at, at + lasts, status, 100 if status == 200 else 0)
    return replace(seen, **more)


GOOD = [
    asked("a", 0.0),
    asked("b", 0.1, 429, retry_after_s=0.5),
    asked("b", 0.7),
    asked("c", 1.2, 529),
    asked("d", 1.3, 529),
    asked("c", 3.0, lasts=0.3),
    asked("d", 3.4),
]


def test_what_is_right_is_found_right() -> None:
    found = judge(RULES, GOOD)
    assert found.wrong == []
    assert (found.requests, found.questions, found.most_tries) == (7, 4, 2)
    assert (found.most_requests, found.most_tokens, found.most_at_once) == (3, 200, 1)
    assert found.statuses == {"200": 4, "429": 1, "529": 2}


def test_one_request_more_is_allowed() -> None:
    together = [asked(str(number), number / 100) for number in range(4)]
    assert judge(RULES, together, outage=False).wrong == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([asked(f"x{n}", 5 + n / 10) for n in range(5)], "5 requests in a window"),
        ([asked("x", 5.0, tokens=900), asked("y", 5.1, tokens=1100)], None),
        (
            [asked("x", 5.0, tokens=900), asked("y", 5.1, tokens=900), asked("z", 5.2, tokens=900)],
            "2700 tokens",
        ),
        ([asked(f"x{n}", 5.0 + n / 100, lasts=0.5) for n in range(4)], "4 requests under way at once"),
        ([asked("x", 5.0 + n, 429) for n in range(3)] + [asked("x", 9.0)], "x was asked 4 times"),
        ([asked("x", 5.0), asked("x", 6.0)], "x got [200, 200]"),
        ([asked("x", 5.0, 429)], "x got [429]"),
        ([asked("x", 5.0, 429, retry_after_s=0.5), asked("x", 5.4)], "x came back 0.110 s before"),
        ([asked("x", 3.1)], "1 requests beside the one that probed"),
        ([asked("x", 2.9, lasts=0.2)], "1 requests beside the one that probed"),
    ],
)
def test_what_is_wrong_is_found(more: list[Seen], says: str | None) -> None:
    found = judge(RULES, [*GOOD, *more])
    assert found.wrong == [] if says is None else any(says in sentence for sentence in found.wrong), found.wrong


def test_an_outage_must_have_been_one() -> None:
    assert "0 failures are no outage" in judge(RULES, [asked("a", 0.0)]).wrong[0]
    assert judge(RULES, []).wrong == ["no request came"]
    away = [asked("a", 0.0, 529), asked("b", 0.1, 529)]
    assert "nobody came back after the outage" in judge(RULES, away).wrong
