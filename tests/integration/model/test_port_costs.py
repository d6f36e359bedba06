"""The port to the models: what may be spent, and what is not paid twice."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.model import parties
from tests.integration.model.ports import GEMINI, Open, in_turn, want
from tests.integration.model.vendor import Reply, Vendor, gateway, gateways
from worker.model.port import BudgetExceeded, CallStatus, Generated, ModelsFailed
from worker.model.types import Message

# --- money


def test_a_job_never_spends_more_than_its_budget(models: Open, vendor: Vendor) -> None:
    # A failed try that was read costs, too; at $8 per million of output, 100 tokens may cost $0.0008.
    vendor.behave = in_turn(Reply(output=90))
    port = models()
    left = Decimal("0.002")
    spent, reason = Decimal(0), ""
    for number in range(10):
        try:
            got = port.generate(want(f"task {number}", budget_usd=left - spent))
        except BudgetExceeded as e:
            reason = e.reason
            break
        assert got.cost_usd is not None
        spent += got.cost_usd
    assert "a call may cost $0.0008" in reason
    assert left - Decimal("0.00083") < spent <= left
    assert len(vendor.arrivals) == 2


def test_a_caller_never_spends_more_than_the_day_allows(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(delay_s=0.1, output=50))
    port = models()
    policy: dict[str, Any] = {
        "caller_budget_usd": Decimal("0.005"),
        "caller_spent_usd": Decimal("0.001"),
        "caller_day": "d",
    }

    def one(number: int) -> Generated | BudgetExceeded:
        try:
            return port.generate(want(f"task {number}", **policy))
        except BudgetExceeded as e:
            return e

    with ThreadPoolExecutor(20) as pool:
        got = list(pool.map(one, range(20)))
    paid = [each for each in got if isinstance(each, Generated)]
    assert len(paid) >= 4
    assert vendor.most_under_way <= 4  # as each may cost $0.0008; what it did not use comes back when it ends
    assert "the caller today has $0.0" in next(each.reason for each in got if isinstance(each, BudgetExceeded))
    later = [one(number) for number in range(100, 110)]
    total = sum(
        (each.cost_usd or Decimal(0) for each in (*got, *later) if isinstance(each, Generated)),
        Decimal("0.001"),
    )
    assert Decimal("0.0041") < total <= Decimal("0.005")
    assert isinstance(one(1000), BudgetExceeded)
    assert isinstance(
        port.generate(want("other", **{**policy, "caller": "ben", "caller_spent_usd": Decimal(0)})), Generated
    )


def test_a_model_without_a_price_needs_leave_where_there_is_a_budget(models: Open, vendor: Vendor) -> None:
    served = gateways(gateway(vendor, "my-own-model"))
    policy: dict[str, Any] = {"model": "my-own-model", "budget_usd": Decimal(1)}
    with pytest.raises(BudgetExceeded, match="its price is unknown"):
        models(gateways=served).generate(want(**policy))
    got = models(parties.quick(allow_unknown_price=True), gateways=served).generate(want(**policy))
    assert got.cost_usd is None
    assert models(gateways=served).generate(want("free", model="my-own-model")).cost_usd is None


# --- cache and single flight


class Kept:
    """A cache in memory."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get(self, key: str, caller: str) -> str | None:
        return self.entries.get((key, caller))

    def put(self, key: str, caller: str, job: str, entry: str) -> None:
        self.entries[key, caller] = entry


def test_a_kept_answer_costs_nothing_and_only_for_who_asked(models: Open, vendor: Vendor) -> None:
    port = models(cache=Kept())
    first = port.generate(want(cache=True))
    again = port.generate(want(cache=True, budget_usd=Decimal(1)))
    assert (again.cached, again.cost_usd, again.answer.text) == (True, Decimal(0), first.answer.text)
    assert again.calls[0].request_id == first.answer.request_id
    others: tuple[dict[str, Any], ...] = (
        {"caller": "ben"}, {"temperature": 0.9}, {"top_p": 0.5}, {"max_tokens": 99}, {"stop": ("x",)},
        {"system": "s"}, {"model": GEMINI}, {"messages": (Message("user", "b"),)}, {"cache": False},
    )  # fmt: skip
    for other in others:
        assert not port.generate(want(**{"cache": True, **other})).cached, other
    assert port.stats().cached == 1


def test_identical_calls_under_way_are_paid_once(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(delay_s=3))
    ports = [models(), models()]  # as two processes would: they share nothing but Redis

    def one(number: int) -> Generated:
        return ports[number % 2].generate(want("same", caller="anna" if number < 30 else "ben"))

    with ThreadPoolExecutor(40) as pool:
        got = list(pool.map(one, range(40)))
    assert len(vendor.arrivals) == 2  # one for each caller
    assert [
        sum(each.calls[-1].status is status for each in got) for status in (CallStatus.OK, CallStatus.SHARED)
    ] == [2, 38]
    assert {each.answer.text for each in got} == {"print(42)"}
    assert sum((each.cost_usd or Decimal(0) for each in got), Decimal(0)) == 2 * Decimal("0.000082")
    one(0)
    assert len(vendor.arrivals) == 3  # an answer is for those who came while it was under way


def test_failures_are_not_shared(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(400, delay_s=0.2), Reply(delay_s=0.2))
    port = models()

    def one(_: int) -> Generated | ModelsFailed:
        try:
            return port.generate(want("same"))
        except ModelsFailed as e:
            return e

    with ThreadPoolExecutor(5) as pool:
        got = list(pool.map(one, range(5)))
    assert vendor.statuses == [400, 200]
    assert sum(isinstance(each, ModelsFailed) for each in got) == 1


def test_who_wants_an_answer_of_its_own_gets_one(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(delay_s=0.2))
    port = models()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: port.generate(want("same", coalesce=False)), range(3)))
    assert len(vendor.arrivals) == 3
