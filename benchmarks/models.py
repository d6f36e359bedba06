"""The way to a model: what the client and all around it add to a bare call, and what a task takes beside its
model and its program. The model is a scripted one, in a process of its own on the same machine."""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks import gateway, port, targets
from benchmarks.containers import Bench
from benchmarks.document import Measurement
from benchmarks.load import Answer, in_turn, request
from benchmarks.pace import Pace
from benchmarks.service import Service
from retort.embedded import Valkey
from tests.models import MODEL, scripted_process

#: No limit of a gateway shall be felt here.
GATEWAYS = """
[gateways.scripted]
url = "{url}"
key_length = 0
models = ["{model}"]
limits = {{ rpm = 1000000, tpm = 1000000000, burst = 1000 }}

[gateways.scripted.model_limits."{model}"]
rpm = 1000000
tpm = 1000000000
burst = 1000
"""
UNLIMITED = {
    "RETORT_MODEL_ADAPTIVE_INITIAL": "100000",
    "RETORT_MODEL_ADAPTIVE_MOST": "100000",
    "RETORT_MODEL_CALLER_REQUESTS": "100000",
    "RETORT_MODEL_CALLER_BURST": "100000",
}

#: Tasks that are not counted: connections are opened, cells become used ones.
WARM = 20

Found = Iterator[Measurement]


def measure(bench: Bench, pace: Pace) -> Found:
    """All of it. The bench's own containers are not used."""
    del bench
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="retort-")))
        url = closing.enter_context(scripted_process(folder / "model.log"))
        yield from _client(pace, url)
        yield from _port(pace, url, folder)
        pace.settle()
        file = folder / "gateways.toml"
        file.write_text(GATEWAYS.format(url=url, model=MODEL), encoding="utf-8")
        service = closing.enter_context(Service({"RETORT_GATEWAYS": str(file), **UNLIMITED}))
        pace.settle()
        yield from _tasks(pace, service)
        yield from _cached(pace, service)


def _client(pace: Pace, url: str) -> Found:
    for form in ("whole", "stream"):
        pace.say(f"models: the gateway client, {form} answers")
        ours, bare = asyncio.run(gateway.measure(url, pace.model_calls, stream=form == "stream"))
        yield from _against_bare(f"models.client.{form}", f"gateway client, {form} answer", ours, bare)


def _port(pace: Pace, url: str, folder: Path) -> Found:
    pace.say("models: the whole way to a model")
    valkey = Valkey(folder / "valkey", folder / "run")
    valkey.start()
    try:
        ours, bare = port.measure(url, valkey.url, pace.model_calls)
    finally:
        valkey.stop()
    yield from _against_bare("models.port", "whole way to a model", ours, bare)


def _against_bare(key: str, title: str, ours: list[float], bare: list[float]) -> Found:
    """Each of our calls stands beside a bare one of the same moment."""
    yield Measurement.of_times(f"{key}.bare", f"{title}: the bare call", [1e3 * each for each in bare])
    yield Measurement.of_times(key, f"{title}: the call", [1e3 * each for each in ours])
    added = [1e3 * (one - other) for one, other in zip(ours, bare, strict=True)]
    yield Measurement.of_times(f"{key}.added", "  of which added by us", added)


def _tasks(pace: Pace, service: Service) -> Found:
    pace.say("models: tasks over HTTP, one client")
    # Each has words of its own: equal questions would be a case for the caches.
    tasks = [_task(service, f"[scripted:right] number {number}") for number in range(WARM + pace.tasks)]
    answers = in_turn(service.address, tasks)[WARM:]
    model, program, rest, overhead = [], [], [], []
    with httpx.Client(
        base_url="http://{}:{}".format(*service.address),
        headers={"Authorization": f"Bearer {service.key}"},
        trust_env=False,
    ) as client:
        for answer in answers:
            attempt = client.get(f"/v1/jobs/{answer.job['id']}/attempts/1").raise_for_status().json()
            model_ms = sum(1e3 * call["latency_s"] for call in attempt["calls"])
            program_ms = 1e3 * attempt["usage"]["wall_s"]
            model.append(model_ms)
            program.append(program_ms)
            rest.append(answer.ms - model_ms - program_ms)
            overhead.append(_lifetime_ms(answer.job) - model_ms - program_ms)
    reused = sum(bool(answer.job["usage"]["sandbox_reused"]) for answer in answers)
    yield Measurement.of_times(
        "models.task", "HTTP: a task, recycled cell, one client", [each.ms for each in answers], reused=reused
    )
    yield Measurement.of_times("models.task.model", "  of which its model", model)
    yield Measurement.of_times("models.task.program", "  of which its program, in the sandbox", program)
    yield Measurement.of_times("models.task.rest", "  of which everything else", rest)
    yield Measurement.of_times(targets.TASK, "  of which everything else until its result is written", overhead)


def _lifetime_ms(job: Mapping[str, Any]) -> float:
    """From a job's acceptance to its result by the database: without the ways of request and answer."""
    created, finished = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    return (finished - created) / timedelta(milliseconds=1)


def _cached(pace: Pace, service: Service) -> Found:
    pace.say("models: results and answers from the caches")
    code = request(service.address, service.key, {"code": "print(sum(range(10**6)))", "cache": True})
    runs = _again(service, code, pace.tasks)
    yield Measurement.of_times(targets.CACHED_RUN, "HTTP: a program whose result is kept", _ms(runs))
    tasks = _again(service, _task(service, "[scripted:right] the same", cache=True), pace.tasks)
    yield Measurement.of_times(
        "models.cached.task", "HTTP: a task whose answer and result are kept", _ms(tasks)
    )
    with httpx.Client(
        base_url="http://{}:{}".format(*service.address),
        headers={"Authorization": f"Bearer {service.key}"},
        trust_env=False,
    ) as client:
        found = []
        for each in tasks:
            (call,) = client.get(f"/v1/jobs/{each.job['id']}/attempts/1").raise_for_status().json()["calls"]
            assert call["cache_hit"], call
            found.append(1e3 * call["latency_s"])
    yield Measurement.of_times(targets.CACHED_ANSWER, "  of which finding the answer", found)


def _again(service: Service, wanted: bytes, count: int) -> list[Answer]:
    """The same job after the first ones, which filled the cache."""
    return in_turn(service.address, [wanted] * (WARM + count))[WARM:]


def _ms(answers: list[Answer]) -> list[float]:
    return [answer.ms for answer in answers]


def _task(service: Service, text: str, **more: Any) -> bytes:
    job = {"task": text, "model": MODEL, "fallbacks": [], "reuse": "caller", **more}
    return request(service.address, service.key, job)
