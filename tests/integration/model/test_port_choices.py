"""The port to the models: who is asked instead, who has to wait, and who is asked at once."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from domain.catalogue import Bucket
from tests.harness import eventually
from tests.integration.model import parties
from tests.integration.model.ports import DEEPSEEK, GEMINI, GPT, Open, in_turn, want
from tests.integration.model.vendor import Reply, Vendor, gateway, gateways, serving
from worker.model.port import BudgetExceeded, ContextTooLong, NoModel, Priority, Queued, Route


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
