"""The small pure parts around a call: retry, worst cases, live figures, keys of answers, leases."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.prices import Price, Tokens
from worker.model import answers
from worker.model.budget import dollars, nano, worst_case
from worker.model.retry import delay
from worker.model.settings import ModelSettings
from worker.model.shared import kept_alive
from worker.model.stats import LiveStats
from worker.model.types import RETRYABLE, Failure, Finish, Message, ModelAnswer, ModelError, Usage
from worker.model.want import CallRecord, CallStatus, Want

SETTINGS = ModelSettings()


def error(kind: Failure, retry_after_s: float | None = None) -> ModelError:
    return ModelError(kind, "x", retry_after_s=retry_after_s)


# --- retry


@pytest.mark.parametrize("kind", sorted(set(Failure) - RETRYABLE))
def test_what_cannot_succeed_is_not_tried_again(kind: Failure) -> None:
    assert delay(error(kind), 0, SETTINGS, lambda: 0.5) is None
    assert delay(error(kind, 1.0), 0, SETTINGS, lambda: 0.5) is None


def test_the_waits_double_up_to_a_most_and_end() -> None:
    waits = [delay(error(Failure.SERVER), retry, SETTINGS, lambda: 0.0) for retry in range(6)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, None]
    longer = ModelSettings(retries=9)
    assert delay(error(Failure.SERVER), 8, longer, lambda: 1.0) == 31.0


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(1.5, 2.0), (0.02, 0.52), (120, 120.5), (120.1, None), (86_400, None), (0, 1.5), (-3, 1.5), (None, 1.5)],
)
def test_what_the_gateway_asks_for(asked: float | None, wait: float | None) -> None:
    assert delay(error(Failure.RATE_LIMITED, asked), 0, SETTINGS, lambda: 0.5) == wait


@given(
    st.sampled_from(Failure), st.integers(0, 10), st.floats(0, 1), st.one_of(st.none(), st.floats(-10, 1000))
)
def test_no_wait_is_longer_than_allowed(kind: Failure, retry: int, chance: float, asked: float | None) -> None:
    wait = delay(error(kind, asked), retry, SETTINGS, lambda: chance)
    assert wait is None or 0 <= wait <= SETTINGS.retry_after_most_s + SETTINGS.retry_jitter_s
    assert wait is None or asked is None or wait >= asked


# --- money


@given(
    st.decimals(0, 100, places=4), st.decimals(0, 100, places=4), st.integers(0, 10**6), st.integers(0, 10**5),
    st.integers(0, 10**6), st.integers(0, 10**5),
)  # fmt: skip
def test_a_worst_case_is_never_passed(
    read: Decimal, written: Decimal, tokens: int, most: int, cached: int, used: int
) -> None:
    price = Price(read, written, cache_read=read / 10, cache_write=read * Decimal("1.25"))
    counts = Tokens(max(0, tokens - cached), min(used, most), 0, min(tokens, cached))
    assert price.cost(counts).usd <= worst_case(price, tokens, most)


@given(st.decimals(0, 10**6, places=12))
def test_billionths_are_rounded_up(usd: Decimal) -> None:
    assert usd <= Decimal(nano(usd)) / 10**9 < usd + Decimal("1e-9")
    assert nano(usd) < 2**53


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        ("0", "$0"),
        ("0.000123456", "$0.0001235"),
        ("1", "$1"),
        ("0.5", "$0.5"),
        ("123.456", "$123.46"),
        ("20", "$20"),
    ],
)
def test_dollars_for_people(usd: str, text: str) -> None:
    assert dollars(Decimal(usd)) == text


# --- live figures

RECORD = CallRecord("r", "m", "g", CallStatus.OK, 1, 0, cost_usd=Decimal("0.5"), latency_s=2.0)


def test_nothing_is_told_from_nothing() -> None:
    now = LiveStats().now()
    assert (now.total, now.success_rate, now.average_latency_s, now.monthly_cost_usd) == (0, None, None, None)
    assert now.as_dict()["cost_per_success_usd"] is None


def test_figures() -> None:
    time = [0.0]
    stats = LiveStats(lambda: time[0])
    for _ in range(3):
        stats.count(RECORD)
    stats.count(replace(RECORD, status=CallStatus.FAILED, cost_usd=None))
    stats.count(replace(RECORD, status=CallStatus.CACHED, cost_usd=Decimal(0)))
    stats.count(replace(RECORD, cost_usd=None, latency_s=6.0))
    time[0] = 86_400.0
    now = stats.now()
    assert (now.total, now.success, now.failed, now.cached, now.unpriced) == (6, 4, 1, 1, 1)
    assert (now.success_rate, now.average_latency_s) == (0.8, 3.0)
    assert (now.cost_usd, now.monthly_cost_usd) == (Decimal("1.5"), Decimal(45))
    assert now.cost_per_success_usd == Decimal("0.5")
    assert now.as_dict()["cost_per_success_usd"] == "0.500000"


def test_latency_is_that_of_the_last_thousand() -> None:
    stats = LiveStats()
    for number in range(3_000):
        stats.count(replace(RECORD, latency_s=100.0 if number < 2_000 else 1.0))
    assert stats.now().average_latency_s == 1.0


# --- kept answers

ANSWER = ModelAnswer(
    "print('é')", Finish.LENGTH, Usage(1, 2, 3, 4, estimated=True), "m", "m-1", "g", "id", 1.5, 0.5, True, "0.1"
)


def test_an_answer_is_read_as_it_was_written() -> None:
    assert answers.read(answers.write(ANSWER)) == ANSWER
    assert answers.read("{}") is None
    assert answers.read("nonsense") is None


wants = st.builds(
    Want,
    st.sampled_from(["anna", "ben"]),
    st.lists(
        st.builds(Message, st.sampled_from(["user", "assistant"]), st.sampled_from(["", "a", "b"])), max_size=2
    ).map(tuple),
    st.sampled_from([None, "", "a"]),
    temperature=st.sampled_from([None, 0.0, 0.5]),
    top_p=st.sampled_from([None, 0.5]),
    stop=st.sampled_from([(), ("a",), ("a", "b")]),
)


@given(wants, wants)
def test_keys_are_equal_where_and_only_where_all_is(one: Want, other: Want) -> None:
    assert (answers.key_of(one, ["m"], [1]) == answers.key_of(other, ["m"], [1])) == (one == other)
    assert answers.key_of(one, ["m"], [1]) != answers.key_of(one, ["n"], [1])
    assert answers.key_of(one, ["m"], [1]) != answers.key_of(one, ["m"], [2])


# --- leases


def test_a_lease_ends_though_its_renewal_swallows_the_cancelling() -> None:
    renewals = 0

    async def main() -> None:
        renewing = asyncio.Event()

        async def renew() -> None:
            nonlocal renewals
            renewals += 1
            renewing.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

        async with kept_alive(renew, 0.03):
            await renewing.wait()

    asyncio.run(asyncio.wait_for(main(), 30))
    assert renewals == 1
