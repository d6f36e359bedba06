"""`python -m benchmarks.workers`: one worker process against two, and a short queue against a long one.

Workers: the same load on the same processors with one process and, in turns, with a second one beside it.
Queues: so many jobs wait all the time, for each that ends is followed by a new one; so at every length a job
costs one request, one claim, one run and one result. CPU is told apart by who spends it, so that the shares of
database and broker can be read off.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis
from sqlalchemy import create_engine, text

from benchmarks import machine, table
from benchmarks.containers import Bench
from benchmarks.groups import Groups
from benchmarks.load import LoadError, ask, connect, load, request
from benchmarks.run import RESULTS, ROOT
from benchmarks.service import Service
from benchmarks.stats import percentile
from domain.bell import STATES_CHANNEL, parse_state_message
from retort import commands

JOB = {"code": "print(1)", "reuse": "caller"}
CLIENTS = 8
#: Connections that keep the queue at its length.
FEEDERS = 4
LENGTHS = (10, 1_000, 100_000)
#: Jobs of one batch, as the queue is filled.
PORTION = 5_000

#: Nothing is in the way of a long queue.
LIMITS = {
    "RETORT_REQUESTS_PER_S": "0",
    "RETORT_MAX_QUEUED": "0",
    "RETORT_MAX_QUEUED_PER_CALLER": "0",
}


@contextmanager
def second_worker(service: Service) -> Iterator[dict[str, int]]:
    """Another worker with the settings of the service's own; its pid by name."""
    environment = Path(f"/proc/{service.pids['worker']}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    env = dict(each.decode().split("=", 1) for each in environment)
    name = f"{service.instance}-second"
    with tempfile.TemporaryDirectory(prefix="retort-bench-") as folder, ExitStack() as closing:
        log = closing.enter_context(Path(folder, "worker.log").open("wb"))
        process = subprocess.Popen(
            commands.worker(),
            env={**env, "RETORT_INSTANCE": name, "RETORT_STATE_DIR": folder},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _until_ready(service, name)
            yield {"worker 2": process.pid}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _until_ready(service: Service, name: str) -> None:
    engine = create_engine(service.database_url)
    try:
        for _ in range(600):
            with engine.connect() as connection:
                asked = text("SELECT ready FROM workers WHERE instance = :name")
                if connection.execute(asked, {"name": name}).scalar():
                    return
            time.sleep(0.1)
    finally:
        engine.dispose()
    raise RuntimeError(f"the worker {name} did not become ready within a minute")


def of_workers(bench: Bench, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Rate and CPU of a job with one worker process and with two, in turns on one service."""
    found: list[dict[str, Any]] = []
    with Service() as service:
        wanted = request(service.address, service.key, JOB)
        for number in range(rounds):
            for count in (1, 2) if number % 2 == 0 else (2, 1):
                say(f"round {number + 1} of {rounds}: {count} worker{'s' if count > 1 else ''}")
                with second_worker(service) if count == 2 else _nobody() as second:
                    load(service.address, wanted, CLIENTS, 1.0, warm_s=2.0)  # cells must be there to be watched
                    groups = Groups(bench.engine, service.instance, {**service.pids, **second})
                    done = load(service.address, wanted, CLIENTS, seconds, warm_s=1.0, mark=groups.mark)
                    found.append(_figures({"workers": count}, len(done.ms), done.seconds, groups))
    return found


@contextmanager
def _nobody() -> Iterator[dict[str, int]]:
    yield {}


class Feed:
    """Keeps so many jobs waiting: counts those that end, and submits as many."""

    def __init__(self, service: Service, length: int, already: int) -> None:
        """`already`: so many wait."""
        self.ended = 0
        self._length = length
        self._submitted = already
        self._lock = threading.Condition()
        self._over = False
        self._address = service.address
        self._request = request(service.address, service.key, JOB, wait=False)
        self._redis = redis.Redis.from_url(service.redis_url)
        self._bus = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._bus.subscribe(STATES_CHANNEL)
        self._threads = [threading.Thread(target=self._hear)]
        self._threads += [threading.Thread(target=self._submit) for _ in range(FEEDERS)]
        self.failed: Exception | None = None

    def __enter__(self) -> "Feed":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()
        self._bus.close()
        self._redis.close()

    def until_full(self) -> None:
        """Wait until as many wait as there shall be."""
        while self.failed is None and self._submitted - self.ended < self._length:
            time.sleep(0.05)

    def _hear(self) -> None:
        while not self._over:
            message = self._bus.get_message(timeout=0.2)
            if message is not None and parse_state_message(message["data"].decode())[1] == "finished":
                with self._lock:
                    self.ended += 1
                    self._lock.notify()

    def _submit(self) -> None:
        try:
            with connect(self._address) as connection:
                while True:
                    with self._lock:
                        self._lock.wait_for(lambda: self._over or self._submitted - self.ended < self._length)
                        if self._over:
                            return
                        self._submitted += 1
                    ask(connection, self._request, status=202)
        except (OSError, LoadError) as e:
            self.failed = e


def of_lengths(bench: Bench, lengths: Sequence[int], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """CPU of a job while so many wait, in turns on one service."""
    found: list[dict[str, Any]] = []
    with Service(LIMITS) as service:
        load(service.address, request(service.address, service.key, JOB), CLIENTS, 1.0, warm_s=3.0)
        for number in range(rounds):
            for length in lengths if number % 2 == 0 else reversed(lengths):
                say(f"round {number + 1} of {rounds}: {length:,} jobs wait")
                with Feed(service, length, _fill(service, length)) as feed:
                    feed.until_full()
                    time.sleep(3)
                    groups = Groups(bench.engine, service.instance, service.pids)
                    groups.mark()
                    before, began = feed.ended, time.perf_counter()
                    time.sleep(seconds)
                    groups.mark()
                    ended, taken = feed.ended - before, time.perf_counter() - began
                if feed.failed is not None:
                    raise feed.failed
                found.append(_figures({"queued": length}, ended, taken, groups))
                _empty(service)
    return found


def _fill(service: Service, length: int) -> int:
    """Most of a long queue comes as batches; how many wait then."""
    host, port = service.address
    while (waiting := _queued(service)) + PORTION <= length:
        answer = httpx.post(
            f"http://{host}:{port}/v1/batches",
            content=(json.dumps(JOB) + "\n") * PORTION,
            headers={"Authorization": f"Bearer {service.key}", "Content-Type": "application/x-ndjson"},
            timeout=120,
        )
        answer.raise_for_status()
    return waiting


def _queued(service: Service) -> int:
    engine = create_engine(service.database_url)
    try:
        with engine.connect() as connection:
            return int(
                connection.execute(text("SELECT count(*) FROM jobs WHERE state = 'queued'")).scalar_one()
            )
    finally:
        engine.dispose()


def _empty(service: Service) -> None:
    """Forget what waits, and let the tables be as if it had never been there."""
    engine = create_engine(service.database_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text("DELETE FROM jobs WHERE state = 'queued'"))
            connection.execute(text("VACUUM ANALYZE jobs"))
    finally:
        engine.dispose()
    redis.Redis.from_url(service.redis_url).delete("sandbox", "sandbox.batch")
    time.sleep(3)


def _figures(facts: dict[str, int], jobs: int, seconds: float, groups: Groups) -> dict[str, Any]:
    if not jobs:
        raise RuntimeError(f"no job ended in {seconds:.0f} s: {facts}")
    spent = {name: 1e3 * value / jobs for name, value in groups.spent().items()}
    return {**facts, "jobs": jobs, "per_s": jobs / seconds, "cpu_ms": spent}


def medians(found: Sequence[dict[str, Any]], by: str) -> dict[int, dict[str, float]]:
    """Of all rounds: jobs a second, and CPU of a job by who spent it, without the benchmark's own."""
    result = {}
    for value in sorted({each[by] for each in found}):
        rounds = [each for each in found if each[by] == value]
        names = [name for name in rounds[0]["cpu_ms"] if name != "benchmark"]
        cpu = {name: percentile([each["cpu_ms"][name] for each in rounds], 50) or 0.0 for name in names}
        rate = percentile([each["per_s"] for each in rounds], 50) or 0.0
        result[value] = {"per_s": rate, **cpu, "all": sum(cpu.values())}
    return result


def lines(found: dict[int, dict[str, float]], what: str) -> str:
    """A table of these figures."""
    names = sorted({name: None for each in found.values() for name in each}, key=lambda name: name == "all")
    titles = tuple("jobs/s" if name == "per_s" else name for name in names)
    rows = [(f"{key:,}", *(table.number(each.get(name)) for name in names)) for key, each in found.items()]
    return table.text((what, *titles), rows)


def say(line: str) -> None:
    """Progress, apart from the results."""
    print(f"workers: {line}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short, and short queues: to see that it works")
    parser.add_argument("--rounds", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    chosen = parser.parse_args(arguments)
    seconds, rounds, lengths = (2.0, 1, (10, 200)) if chosen.quick else (12.0, chosen.rounds, LENGTHS)
    bench = Bench()
    stolen, began = machine.stolen_s(), time.monotonic()
    try:
        facts = machine.facts(bench.engine, ROOT)
        workers = of_workers(bench, seconds, rounds)
        queues = of_lengths(bench, lengths, seconds, rounds)
    finally:
        bench.close()
    facts |= {"seconds": time.monotonic() - began, "stolen_s": machine.stolen_s() - stolen}
    result = {"machine": facts, "rounds": rounds, "workers": workers, "queues": queues}
    chosen.output.mkdir(parents=True, exist_ok=True)
    name = "workers.trial.json" if chosen.quick else "workers.json"
    (chosen.output / name).write_text(json.dumps(result, indent=2) + "\n")
    print("CPU per job, ms\n")
    print(lines(medians(workers, "workers"), "worker processes"), end="\n\n")
    print(lines(medians(queues, "queued"), "jobs that wait"))
    if (stolen_line := machine.stolen(facts)) is not None:
        print(f"\n{stolen_line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
