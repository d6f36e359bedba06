"""The port to the models, over real sockets and a real Redis: everything around a call, in its order."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tests.harness import eventually
from tests.integration.model import parties
from tests.integration.model.ports import GEMINI, GPT, Open, in_turn, want
from tests.integration.model.vendor import Reply, Vendor, gateway, gateways
from worker.model.port import CallRecord, CallStatus, DeadlinePassed, Generated, Models, ModelsFailed, Queued
from worker.model.types import Failure

# --- one call


def test_an_answer_and_its_record(models: Open, vendor: Vendor) -> None:
    stored: list[tuple[CallRecord, Generated | None, str]] = []

    def store(record: CallRecord, generated: Generated | None) -> None:
        stored.append((record, generated, threading.current_thread().name))

    port = models()
    got = port.generate(want(temperature=0.1, on_call=store))
    assert got.answer.text == "print(42)"
    assert (got.choice.model, got.choice.gateway, got.choice.skipped) == (GPT, "vendor", ())
    assert got.choice.reason == "gpt-4.1 was asked for"
    (record,) = got.calls
    assert stored == [(record, got, threading.current_thread().name)]
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

    def lost(*_: object) -> None:
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
