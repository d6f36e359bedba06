"""The port to the models, over real sockets and a real Redis: everything around a call, in its order."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest

from domain.catalogue import Bucket
from tests.harness import eventually
from tests.integration.model import parties
from tests.integration.model.vendor import Arrival, Reply, Vendor, gateway, gateways, serving
from worker.model.port import (
    BudgetExceeded,
    CallRecord,
    CallStatus,
    ContextTooLong,
    DeadlinePassed,
    Generated,
    Models,
    ModelsFailed,
    NoModel,
    Priority,
    Queued,
    Route,
    Want,
)
from worker.model.settings import ModelSettings
from worker.model.types import Failure, Message

GPT, GEMINI, DEEPSEEK, SONNET = "gpt-4.1", "gemini-2.5-flash", "deepseek-v3.2", "claude-sonnet-4-20250514"

Open = Callable[..., Models]


def want(text: str = "a task", **values: Any) -> Want:
    usual: dict[str, Any] = {
        "caller": "anna",
        "model": GPT,
        "fallbacks": (),
        "max_tokens": 100,
        "deadline_s": 20.0,
    }
    return Want(**{"messages": (Message("user", text),), **usual, **values})


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with serving(Vendor()) as started:
        yield started


@pytest.fixture
def models(url: str, vendor: Vendor) -> Iterator[Open]:
    """Opens a port to the vendor, which serves four models; closes it after the test."""
    with ExitStack() as stack:

        def open_port(settings: ModelSettings | None = None, **values: Any) -> Models:
            served = values.pop("gateways", None) or gateways(gateway(vendor, GPT, GEMINI, DEEPSEEK, SONNET))
            return stack.enter_context(Models(served, url, settings or parties.quick(), **values))

        yield open_port


def in_turn(*replies: Reply) -> Callable[[int, Arrival], Reply]:
    """The replies one after the other, the last for ever."""
    return lambda number, _: replies[min(number, len(replies) - 1)]


# --- one call


def test_an_answer_and_its_record(models: Open, vendor: Vendor) -> None:
    stored: list[tuple[CallRecord, str]] = []
    port = models()
    got = port.generate(
        want(temperature=0.1, on_call=lambda record: stored.append((record, threading.current_thread().name)))
    )
    assert got.answer.text == "print(42)"
    assert (got.choice.model, got.choice.gateway, got.choice.skipped) == (GPT, "vendor", ())
    assert got.choice.reason == "gpt-4.1 was asked for"
    (record,) = got.calls
    assert stored == [(record, threading.current_thread().name)]
    assert (record.status, record.number, record.retry) == (CallStatus.OK, 1, 0)
    assert record.model_version == "gpt-4.1-v1"
    assert record.price is not None
    assert record.price.as_dict()["input"] == "2.00"
    # 1 token at $2 and 10 at $8 per million.
    assert got.cost_usd == record.cost_usd == Decimal("0.000082")
    assert vendor.arrivals[0].body["max_tokens"] == 100
    assert port.stats().success == 1
    assert port.stats().average_latency_s == record.latency_s


def test_what_storing_raises_ends_it(models: Open) -> None:
    class LeaseLost(Exception):
        pass

    def lost(_: CallRecord) -> None:
        raise LeaseLost

    port = models()
    with pytest.raises(LeaseLost):
        port.generate(want(on_call=lost))
    assert port.generate(want()).answer.text == "print(42)"


# --- retry


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_what_may_pass_is_tried_again(models: Open, vendor: Vendor, status: int) -> None:
    vendor.behave = in_turn(Reply(status), Reply(status), Reply())
    got = models().generate(want())
    assert vendor.statuses == [status, status, 200]
    assert [(call.status, call.retry) for call in got.calls] == [
        (CallStatus.FAILED, 0),
        (CallStatus.FAILED, 1),
        (CallStatus.OK, 2),
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Failure.BAD_REQUEST),
        (401, Failure.AUTH),
        (402, Failure.QUOTA),
        (403, Failure.AUTH),
        (404, Failure.NOT_FOUND),
    ],
)
def test_what_cannot_succeed_is_not_tried_again(
    models: Open, vendor: Vendor, status: int, kind: Failure
) -> None:
    vendor.behave = in_turn(Reply(status))
    with pytest.raises(ModelsFailed) as failed:
        models().generate(want())
    assert vendor.statuses == [status]
    assert failed.value.last is not None
    assert failed.value.last.kind is kind
    assert [call.failure for call in failed.value.calls] == [kind]


def test_retries_are_bounded_and_then_the_batch_queue_gets_it(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(500))
    settings = parties.quick(breaker_threshold=100, retries=3)
    with pytest.raises(Queued) as queued:
        models(settings).generate(want())
    assert vendor.statuses == [500] * 4
    assert "failed in 4 calls" in queued.value.reason
    with pytest.raises(ModelsFailed):
        models(settings).generate(want("another", may_queue=False))


@pytest.mark.parametrize("header", ["retry-after", "llm_provider-retry-after"])
def test_the_wait_that_a_gateway_asks_for_is_kept(models: Open, vendor: Vendor, header: str) -> None:
    vendor.behave = in_turn(Reply(429, headers={header: "0.5"}), Reply())
    models().generate(want())
    first, second = vendor.arrivals
    assert second.at - first.at >= 0.5


def test_a_wait_too_long_means_the_next_model(models: Open, vendor: Vendor) -> None:
    vendor.behave = lambda _, arrival: (
        Reply(429, headers={"retry-after": "3600"}) if arrival.model == GPT else Reply()
    )
    got = models().generate(want(fallbacks=None))
    assert (got.choice.model, got.choice.reason) == (GEMINI, "the catalogue's fallback for gpt-4.1")
    assert [(skip.model, "rate_limited" in skip.reason) for skip in got.choice.skipped] == [(GPT, True)]
    assert [each.model for each in vendor.arrivals] == [GPT, GEMINI]


# --- deadlines


def test_the_deadline_of_the_whole(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(delay_s=30))
    began = time.monotonic()
    with pytest.raises(DeadlinePassed) as passed:
        models().generate(want(deadline_s=0.3))
    assert time.monotonic() - began < 5
    assert [call.failure for call in passed.value.calls] == [Failure.TIMEOUT]
    # It was our own impatience, which says nothing about the gateway.
    vendor.behave = in_turn(Reply())
    assert models(parties.quick(breaker_threshold=1)).generate(want()).answer.text == "print(42)"


def test_no_wait_goes_beyond_the_deadline(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(500))
    with pytest.raises(DeadlinePassed):
        models(parties.quick(retry_base_s=30, retry_most_s=30)).generate(want(deadline_s=2))
    assert vendor.statuses == [500]


# --- fallback, breaker, capacity


def test_another_gateway_with_the_same_model_comes_first(url: str, vendor: Vendor, models: Open) -> None:
    with serving(Vendor(in_turn(Reply(401)))) as broken:
        both = gateways(gateway(broken, GPT, name="broken"), gateway(vendor, GPT, GEMINI))
        got = models(gateways=both).generate(want(fallbacks=None))
    assert (got.choice.model, got.choice.gateway) == (GPT, "vendor")
    assert [(skip.model, skip.gateway) for skip in got.choice.skipped] == [(GPT, "broken")]


def test_an_open_breaker_is_passed_over_without_a_call(models: Open, vendor: Vendor) -> None:
    vendor.behave = lambda _, arrival: Reply(500) if arrival.model == GPT else Reply()
    port = models(parties.quick(breaker_timeout_s=60, retries=10))
    first = port.generate(want(fallbacks=(GEMINI,)))
    assert first.choice.model == GEMINI
    assert vendor.statuses == [500] * 5 + [200]
    second = port.generate(want("again", fallbacks=(GEMINI,)))
    assert [
        (skip.model, "circuit breaker is open (server)" in skip.reason) for skip in second.choice.skipped
    ] == [(GPT, True)]
    assert vendor.statuses == [500] * 5 + [200] * 2


def test_a_full_bucket_spills_over_at_once_and_a_named_model_is_waited_for(
    models: Open, vendor: Vendor
) -> None:
    served = gateways(
        gateway(vendor, DEEPSEEK, GPT, model_limits={DEEPSEEK: Bucket("d", rpm=1), GPT: Bucket("g")})
    )
    port = models(parties.quick(transit_s=0, named_patience_s=5), gateways=served)
    auto: dict[str, Any] = {"model": "auto", "route": Route.COST, "fallbacks": None}
    assert port.generate(want("1", **auto)).choice.model == DEEPSEEK
    spilled = port.generate(want("2", **auto))
    assert spilled.choice.model == GPT
    assert "requests are used up" in spilled.choice.skipped[0].reason
    named = port.generate(want("3", model=DEEPSEEK, fallbacks=(GPT,)))
    assert named.choice.model == DEEPSEEK
    assert named.calls[0].waited_s > 0


def test_without_room_for_long_it_goes_to_the_batch_queue(models: Open, vendor: Vendor) -> None:
    served = gateways(gateway(vendor, GPT, model_limits={GPT: Bucket("g", rpm=1)}))
    port = models(parties.quick(window_s=60, queue_after_s=0.2), gateways=served)
    port.generate(want("1"))
    with pytest.raises(Queued) as queued:
        port.generate(want("2"))
    assert 0 < queued.value.retry_in_s <= 65
    assert "requests are used up" in queued.value.reason
    assert queued.value.calls == ()


def test_batch_work_stands_behind_all_others(models: Open, vendor: Vendor) -> None:
    """One call at a time: who comes last and cannot wait is asked next, in another line than theirs as well."""
    vendor.behave = in_turn(Reply(delay_s=0.2))
    limits = {model: Bucket("one", burst=1) for model in (GPT, GEMINI)}
    served = gateways(gateway(vendor, GPT, GEMINI, model_limits=limits))
    port = models(parties.quick(batch_queue_after_s=60), gateways=served)
    with ThreadPoolExecutor(12) as pool:
        batch = [
            pool.submit(port.generate, want(f"{n}", priority=Priority.BATCH, fallbacks=(GEMINI,)))
            for n in range(12)
        ]
        eventually(lambda: len(vendor.arrivals) > 0, "the first is asked")
        port.generate(want("urgent"))
        # The one under way, one that may have been let in just before, this one, and the next.
        assert len(vendor.arrivals) <= 4
        assert all(each.result(60).answer.text for each in batch)


def test_batch_work_holds_no_thread_for_long(models: Open, vendor: Vendor) -> None:
    served = gateways(gateway(vendor, GPT, model_limits={GPT: Bucket("g", rpm=1)}))
    port = models(parties.quick(window_s=60, batch_queue_after_s=0.05), gateways=served)
    port.generate(want("1"))
    with pytest.raises(Queued):
        port.generate(want("2", priority=Priority.BATCH))


def test_a_caller_who_sends_much_holds_up_nobody_else(models: Open, vendor: Vendor) -> None:
    port = models(parties.quick(caller_requests=1, caller_burst=1, caller_window_s=3.0, transit_s=0))
    with ThreadPoolExecutor(20) as pool:
        many = [pool.submit(port.generate, want(f"task {n}", deadline_s=1.0)) for n in range(20)]
        eventually(lambda: len(vendor.arrivals) == 1, "one of anna's is answered")
        assert port.generate(want("ben's", caller="ben", deadline_s=1.0)).answer.text == "print(42)"
        waiting = [each for each in many if isinstance(each.exception(30), Queued)]
    assert len(waiting) == 19


def test_a_caller_has_so_many_tokens_in_a_minute(models: Open, vendor: Vendor) -> None:
    """What a call may need is set aside, what it had is counted; who must wait for long leaves the thread."""
    port = models(parties.quick(window_s=600, transit_s=0))
    # A call may need 106 tokens, and has 11.
    mine: dict[str, Any] = {"caller_tokens_per_minute": 120, "coalesce": False}
    for n in range(2):
        assert port.generate(want(f"task {n}", **mine)).answer.text == "print(42)"
    with pytest.raises(Queued, match="caller's own tokens") as told:
        port.generate(want("task 3", **mine))
    assert told.value.callers
    assert 0 < told.value.retry_in_s <= 600
    assert len(vendor.arrivals) == 2
    assert port.generate(want("task 4", **{**mine, "caller": "ben"})).answer.text == "print(42)"


def test_a_caller_goes_on_when_the_minute_has_passed(models: Open, vendor: Vendor) -> None:
    port = models(parties.quick(window_s=1.0, transit_s=0, caller_queue_after_s=20))
    for n in range(3):
        got = port.generate(want(f"{n}", caller_tokens_per_minute=50))
        assert got.answer.text == "print(42)"
    assert len(vendor.arrivals) == 3


def test_a_call_larger_than_a_callers_minute_is_made_alone(models: Open, vendor: Vendor) -> None:
    port = models(parties.quick(window_s=60, transit_s=0))
    mine = {"caller_tokens_per_minute": 5}
    assert port.generate(want("1", **mine)).answer.text == "print(42)"
    with pytest.raises(Queued):
        port.generate(want("2", **mine))


def test_a_call_that_no_bucket_ever_takes(models: Open, vendor: Vendor) -> None:
    served = gateways(
        gateway(vendor, GPT, GEMINI, model_limits={GPT: Bucket("g", tpm=50), GEMINI: Bucket("h")})
    )
    got = models(gateways=served).generate(want(fallbacks=(GEMINI,)))
    assert got.choice.model == GEMINI
    assert "more tokens than it takes in a whole window" in got.choice.skipped[0].reason
    with pytest.raises(ContextTooLong, match="most tokens in a window"):
        models(gateways=served).generate(want("2"))


def test_policies_that_leave_no_model(models: Open, vendor: Vendor) -> None:
    port = models()
    refusals: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"model": "gpt-5"}, NoModel, "no model is called 'gpt-5'"),
        ({"model": "haiku-4"}, NoModel, "no gateway serves it"),
        ({"required_accuracy": 0.99}, NoModel, "the best is gpt-4.1 with 0.94"),
        ({"model": DEEPSEEK, "needs": frozenset({"vision"})}, NoModel, "it lacks vision"),
        ({"text": "x" * 5_000_000}, ContextTooLong, "1,047,576 (gpt-4.1)"),
        ({"budget_usd": Decimal(0)}, BudgetExceeded, "the job has $0 left"),
    ]
    for policy, error, says in refusals:
        with pytest.raises(error) as refused:
            port.generate(want(**policy))
        assert says in str(refused.value)
    assert vendor.arrivals == []


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
    vendor.behave = in_turn(Reply(delay_s=0.5))
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


# --- ends


def test_closing_ends_what_is_under_way_and_leaves_nothing(models: Open, vendor: Vendor) -> None:
    vendor.behave = in_turn(Reply(delay_s=30))
    before = set(threading.enumerate())
    port = models(parties.quick(breaker_threshold=1))
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(port.generate, want(str(number))) for number in range(2)]
        eventually(lambda: vendor.under_way == 2, "two calls are under way")
        port.close()
        for each in waiting:
            with pytest.raises(Queued, match="stopping"):
                each.result(10)
    with pytest.raises(Queued, match="stopping"):
        port.generate(want())
    assert set(threading.enumerate()) <= before
    eventually(lambda: vendor.under_way == 0, "the connections are gone")
    vendor.behave = in_turn(Reply())
    assert models(parties.quick(breaker_threshold=1)).generate(want()).answer.text == "print(42)"


def test_without_redis_nothing_is_asked(vendor: Vendor) -> None:
    served = gateways(gateway(vendor, GPT))
    nowhere = Models(served, "unix:///nonexistent/redis.sock", parties.quick())
    with nowhere as port, pytest.raises(Queued, match="coordinated"):
        port.generate(want())
    assert vendor.arrivals == []
