"""The watch over an event loop, on real loops that are held up in earnest, with shorter times."""

import asyncio
import sys
import time
from collections.abc import Callable

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.pulse import TURN_S, Pulse
from telemetry.scrape import new_registry
from tests.harness import eventually

BEAT_S, LATE_S = 0.02, 0.3


def beat(pulse: Pulse, hold_up: Callable[[], object]) -> None:
    """Let it beat, hold its loop up, and let it beat again."""

    async def live() -> None:
        beating = asyncio.create_task(pulse.run())
        await asyncio.sleep(3 * BEAT_S)
        hold_up()
        await asyncio.sleep(3 * BEAT_S)
        assert pulse.health() == (True, {"status": "ok", "loop_lag_s": pytest.approx(0, abs=LATE_S)})
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)

    asyncio.run(live())


def test_who_does_not_beat_is_not_late() -> None:
    pulse = Pulse(BEAT_S, LATE_S)
    assert pulse.health() == (True, {"status": "ok", "loop_lag_s": 0})
    beat(pulse, lambda: None)
    assert pulse.health() == (True, {"status": "ok", "loop_lag_s": 0})


def test_a_standstill_is_told_once_with_what_it_was_and_that_it_ended(caplog: pytest.LogCaptureFixture) -> None:
    pulse = Pulse(BEAT_S, LATE_S)
    registry = new_registry()
    registry.register(pulse.watched)

    def somebody_waits() -> None:
        eventually(lambda: bool(caplog.records), "it is told while it lasts")
        time.sleep(5 * BEAT_S)
        assert len(caplog.records) == pulse.stalls == 1
        well, said = pulse.health()
        assert (well, said["status"]) == (False, "standing still")
        assert said["loop_lag_s"] > LATE_S
        assert "Thread" not in caplog.records[0].getMessage()

    beat(pulse, somebody_waits)
    began, ended = caplog.records[:2]
    assert began.getMessage().startswith("the event loop stands still, for 0.")
    assert "somebody_waits" in vars(began)["stack"]
    assert "the event loop goes on" in ended.getMessage()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }
    assert found["retort_loop_stalls_total"] == pulse.stalls
    assert found["retort_loop_lag_seconds"] == 0
    assert found["retort_loop_lag_longest_seconds"] > LATE_S


def test_a_whole_process_that_stood_still_is_told_when_it_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pulse = Pulse(BEAT_S, LATE_S)
    count, took = 10**6, 0.0
    while took < 5 * LATE_S:  # a machine that is busy now may be idle in a moment
        count, began = count * 2, time.monotonic()
        sum(range(count))
        took = time.monotonic() - began
    beat(pulse, lambda: bool(sum(range(count))))  # in C: no other thread has a turn until it is done
    told = [each for each in caplog.records if "the whole process stood still" in each.getMessage()]
    assert told
    assert pulse.stalls == len(caplog.records)  # a busy machine may have held us up besides
    assert not any(hasattr(each, "stack") for each in told)


def test_threads_wait_shorter_for_the_interpreter_while_it_beats() -> None:
    usual, meanwhile = sys.getswitchinterval(), []
    beat(Pulse(BEAT_S, LATE_S), lambda: meanwhile.append(sys.getswitchinterval()))
    assert meanwhile == [pytest.approx(TURN_S)]
    assert TURN_S < usual == sys.getswitchinterval()
