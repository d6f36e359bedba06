"""The whole service over HTTP: one client's latency, many clients' throughput, and who spends the time."""

from collections.abc import Iterator

from benchmarks import guarded
from benchmarks.containers import Bench
from benchmarks.document import CpuPerJob, Measurement
from benchmarks.groups import Groups
from benchmarks.load import Answer, load, one_by_one, request
from benchmarks.pace import Pace
from benchmarks.service import Service
from benchmarks.stats import summary

CODE = "print(1)"
CLIENTS = (1, 2, 4, 8, 16)
FRESH_CLIENTS = (4, 8)

#: Counted no sooner: what was kept ready is used up by then, and replaced at the pace that lasts.
FRESH_WARM_S = 5.0
WARM_S = 3.0

#: A stretch that takes so much longer than asked for was interrupted by something outside of us.
STALL_S = 0.5

#: Numbers of clients for which CPU time is broken down.
_EXPLAINED = (1, 8)

Found = Iterator[Measurement | CpuPerJob]


def measure(bench: Bench, pace: Pace) -> Found:
    """All of the service."""
    pace.say("service: first start")
    with Service() as service:
        yield Measurement.of_times("e2e.up", "retort up in an empty folder, until ready", [1e3 * service.up_s])
        recycled = request(service.address, service.key, {"code": CODE, "reuse": "caller"})
        fresh = request(service.address, service.key, {"code": CODE, "reuse": "never"})
        cold = one_by_one(service.address, fresh, 1)
        yield _latency("e2e.first", "HTTP: first job, at once when ready", cold)
        pace.settle()
        yield from _recycled(bench, pace, service, recycled)
        pace.settle()
        pace.say("service: fresh container for each job, one client")
        paced = one_by_one(service.address, fresh, pace.fresh_requests, pace.fresh_pause_s)
        yield _latency("e2e.latency.fresh", "HTTP: fresh container each, one client with pauses", paced)
        yield from _fresh(bench, pace, service, fresh)
        pace.settle()
        yield from guarded.measure(pace, service)


def _latency(key: str, title: str, answers: list[Answer]) -> Measurement:
    starts = [answer.job["usage"]["sandbox_start"] for answer in answers]
    reused = sum(bool(answer.job["usage"]["sandbox_reused"]) for answer in answers)
    inside = [1e3 * answer.job["usage"]["wall_s"] for answer in answers]
    return Measurement.of_times(
        key,
        title,
        [answer.ms for answer in answers],
        cold=starts.count("cold"),
        reused=reused,
        program_p50_ms=summary(inside).p50,
    )


def _recycled(bench: Bench, pace: Pace, service: Service, wanted: bytes) -> Found:
    pace.say("service: recycled cells, one client")
    one_by_one(service.address, wanted, 50)
    pace.settle()
    answers = one_by_one(service.address, wanted, pace.requests)
    yield _latency("e2e.latency.recycled", "HTTP: recycled cell, one client", answers)
    for clients in CLIENTS:
        title = f"HTTP: recycled cells, {clients} client{'s' if clients > 1 else ''}"
        pace.say(title)
        yield from _loaded(
            bench, pace, service, wanted, f"e2e.recycled.{clients}", title, clients, pace.load_s, WARM_S
        )


def _fresh(bench: Bench, pace: Pace, service: Service, wanted: bytes) -> Found:
    for clients in FRESH_CLIENTS:
        pace.settle()
        title = f"HTTP: fresh container each, {clients} clients"
        pace.say(title)
        yield from _loaded(
            bench,
            pace,
            service,
            wanted,
            f"e2e.fresh.{clients}",
            title,
            clients,
            pace.fresh_load_s,
            FRESH_WARM_S,
        )


def _loaded(
    bench: Bench,
    pace: Pace,
    service: Service,
    wanted: bytes,
    key: str,
    title: str,
    clients: int,
    seconds: float,
    warm_s: float,
) -> Found:
    if clients in _EXPLAINED:  # its cells must be there before they can be watched
        load(service.address, wanted, clients, 1.0, warm_s=warm_s)
    groups = Groups(bench.engine, service.instance, service.pids)
    done = load(service.address, wanted, clients, seconds, warm_s=warm_s, mark=groups.mark)
    if done.seconds > seconds + STALL_S:
        pace.say(f"WARNING: {seconds:g} s took {done.seconds:.1f} s: the machine stood still")
    facts = {
        "clients": clients,
        "seconds": done.seconds,
        "own_cpu_ms": 1e3 * done.own_cpu_s / max(1, len(done.ms)),
    }
    yield Measurement(key, title, ms=summary(done.ms), per_s=done.per_s, facts=facts)
    if clients in _EXPLAINED and done.ms:
        spent = {name: 1e3 * value / len(done.ms) for name, value in groups.spent().items()}
        yield CpuPerJob(title, len(done.ms), spent)
