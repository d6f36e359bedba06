"""`python -m benchmarks.gateway`: what the gateway client adds to a bare HTTP call, in one run.

Each round makes the same call twice, to the same scripted model: with the client, and with aiohttp alone, which
reads the body to its end. Needs neither a container engine nor a database.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import orjson

from benchmarks.stats import summary
from tests.models import a_call, a_gateway, scripted_process
from worker.model.client import GatewayClient
from worker.model.dialects.openai import OpenAI

#: Milliseconds that the client may add to a call.
MOST_MS = 5.0


async def measure(url: str, rounds: int, *, stream: bool) -> tuple[list[float], list[float]]:
    """Seconds of each call: with the client, and bare."""
    gateway = a_gateway(url, key=None, stream=stream)
    call = a_call("[scripted:right]")
    body = orjson.dumps(OpenAI().body(gateway, gateway.models[call.model], call))
    ours, bare = [], []
    async with GatewayClient() as client, aiohttp.ClientSession() as session:
        for number in range(rounds + 20):  # the first ones warm up
            began = time.perf_counter()
            await client.ask(gateway, call, request_id=str(number), deadline_s=60)
            between = time.perf_counter()
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
                data = await response.read()
            if not stream:
                orjson.loads(data)
            ended = time.perf_counter()
            if number >= 20:
                ours.append(between - began)
                bare.append(ended - between)
    return ours, bare


def main() -> int:
    """Measure and print; 0 also when the bound is missed, because a busy machine misses it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it works")
    rounds = 50 if parser.parse_args().quick else 1000
    with (
        tempfile.TemporaryDirectory() as folder,
        scripted_process(Path(folder) / "log") as url,
    ):
        for stream in (False, True):
            ours, bare = (summary(times) for times in asyncio.run(measure(url, rounds, stream=stream)))
            form = "stream" if stream else "whole"
            for name, one in (("client", ours), ("bare", bare)):
                shown = "  ".join(f"{label} {1000 * (value or 0):.2f} ms" for label, value in
                                  (("p50", one.p50), ("p95", one.p95), ("p99", one.p99)))  # fmt: skip
                print(f"{form:7}{name:7}{shown}")
            added = 1000 * ((ours.p50 or 0) - (bare.p50 or 0))
            print(f"{form:7}the client adds {added:.2f} ms (p50); bound {MOST_MS:g} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
