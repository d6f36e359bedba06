"""A thousand calls at once; the gateway takes 60 requests and 100,000 tokens in a minute of 0.6 seconds."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from domain.catalogue import Bucket
from tests.integration.model import parties
from tests.integration.model.conftest import PROCESSES
from tests.integration.model.vendor import Arrival, Reply, Vendor, gateway, gateways, serving
from worker.model.gate import Door, DoorState, Gate
from worker.model.settings import ModelSettings
from worker.model.shared import Shared

CALLS = 1000
RPM, TPM = 60, 100_000
MODEL = "gpt-4.1"
#: Numbers of requests that are answered with 429, and the first of the outage.
BURSTS = {*range(150, 165), *range(400, 408)}
OUTAGE = 600


class Moody:
    """Keeps no limit: what arrives is judged afterwards. Has two bursts of 429, and one outage.

    The outage answers 529 to all until half a second after the fifth. It answers slower than usual, so that no
    answer to an earlier call comes between.
    """

    def __init__(self) -> None:
        self.failures: list[float] = []

    def __call__(self, number: int, arrival: Arrival) -> Reply:
        delay_s = 0.02 + 0.01 * (number % 4)
        if number in BURSTS:
            return Reply(429, headers={"retry-after-ms": "200"}, delay_s=delay_s)
        if number >= OUTAGE and (len(self.failures) < 5 or arrival.at < self.failures[4] + 0.5):
            self.failures.append(arrival.at)
            return Reply(529, delay_s=0.15)
        return Reply(delay_s=delay_s, output=1600 + 40 * (number % 7))


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with serving(Vendor(Moody())) as started:
        yield started


def most_in_a_window(arrivals: list[Arrival], window_s: float) -> tuple[int, int]:
    """The most requests, and the most tokens, in any window of this length."""
    arrivals = sorted(arrivals, key=lambda each: each.at)
    requests = tokens = most_requests = most_tokens = first = 0
    for arrival in arrivals:
        requests, tokens = requests + 1, tokens + arrival.tokens
        while arrivals[first].at <= arrival.at - window_s:
            requests, tokens, first = requests - 1, tokens - arrivals[first].tokens, first + 1
        most_requests, most_tokens = max(most_requests, requests), max(most_tokens, tokens)
    return most_requests, most_tokens


def test_all_finish_and_no_limit_is_passed(url: str, vendor: Vendor, processes: ProcessPoolExecutor) -> None:
    settings = parties.quick(breaker_timeout_s=1.0, queue_after_s=100.0)
    served = gateways(gateway(vendor, MODEL, model_limits={MODEL: Bucket("m", RPM, TPM)}))
    work = [
        processes.submit(parties.generate, url, served, settings, MODEL, range(each, CALLS, PROCESSES))
        for each in range(PROCESSES)
    ]
    tries = [tried for done in work for tried in done.result()]

    # All finish, with retries within bounds.
    assert len(tries) == CALLS
    assert max(tries) <= 1 + settings.retries
    bad = Counter(status for status in vendor.statuses if status != 200)
    assert bad[429] == len(BURSTS)
    assert bad[529] >= settings.breaker_threshold
    assert sum(tries) == len(vendor.arrivals) == CALLS + bad.total()

    # No window of a minute has seen more than the limits; nor are they left unused.
    requests, tokens = most_in_a_window(vendor.arrivals, settings.window_s)
    assert 0.8 * RPM <= requests <= RPM
    assert 0.8 * TPM <= tokens <= TPM

    # The breaker opened once, and one call probed.
    gate = partial(doors, settings=settings)
    state = parties.together(url, 0.0, gate)[f"vendor/{MODEL}"]
    assert (state.breaker, state.opens, state.probes) == ("closed", 1, 1)


async def doors(shared: Shared, settings: ModelSettings) -> dict[str, DoorState]:
    return await Gate(shared, settings).states([Door(f"vendor/{MODEL}")])
