"""An API whose event loop stands still: another port tells, and afterwards everything goes on."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness import eventually
from tests.integration.api.harness import Server
from tests.metrics import differences
from tests.stalling import FILE, STALLS, standing_still, told_of, value


@pytest.fixture(scope="module")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that holds it up."""
    return tmp_path_factory.mktemp("stall") / "stall"


@pytest.fixture(scope="module")
def held(database_url: str, redis_url: str, stall: Path) -> Iterator[Server]:
    """An API that can be held up."""
    settings = {FILE: str(stall), "metrics_port": "0", "key_cache_s": "0"}
    served = Server(stall.parent / "log", database_url, redis_url, program="tests.stalling", **settings)
    yield served
    served.stop()


@pytest.mark.parametrize("computing", [False, True], ids=["waiting", "computing"])
def test_a_loop_that_stands_still_is_told_and_what_came_meanwhile_is_answered(
    held: Server, stall: Path, connect: Callable[..., httpx.Client], *, computing: bool
) -> None:
    server, client = held, connect(held.url)
    lines = len(told_of(server))
    assert server.pulse()[0] == 200
    assert differences(server.pulse_metrics(), "The API's event loop") == []
    before = value(server.pulse_metrics(), STALLS)
    with ThreadPoolExecutor(2) as pool:
        with standing_still(server, stall, computing=computing):
            health = pool.submit(client.get, "/healthz")
            job = pool.submit(client.post, "/v1/jobs", json={"code": "print(1)"})
            eventually(lambda: server.pulse()[0] == 503, "the other port tells")
            told = server.pulse()[1]
            assert told["status"] == "standing still"
            assert told["loop_lag_s"] > 1
            eventually(lambda: value(server.pulse_metrics(), STALLS) == before + 1, "it is counted")
            assert value(server.pulse_metrics(), "retort_loop_lag_seconds") > 1
            eventually(lambda: len(told_of(server)) > lines, "it is logged")
            assert not health.done()
            assert not job.done()
        assert health.result(30).status_code == 200
        assert job.result(30).status_code == 202
    eventually(lambda: server.pulse()[0] == 200, "all is well again")
    (line,) = told_of(server)[lines:]
    assert (line["level"], line["logger"]) == ("WARNING", "api.pulse")
    assert any("the event loop goes on" in each["message"] for each in server.lines())
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert value(text, STALLS) == before + 1
    assert value(text, "retort_loop_lag_longest_seconds") > 1
