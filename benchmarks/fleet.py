"""A fleet on paper: `python -m benchmarks.fleet` runs a day of 1,000,000 jobs on 100 hosts, in a simulation.

Nothing is started. What a job costs is taken from figures measured on one machine (`Costs`), what a day looks
like is assumed (`Day`), and all of it is printed with the result. The queue is simulated job by job: jobs come
at random times whose rate follows the day, the one that came first is taken first, by whichever slot is free,
and hosts are lost now and then with all that runs on them, which runs again once its lease has ended. The same
seed gives the same day.

What is not in it: a broker or database that is down, networks, callers with ceilings of their own, images that
are missing. The database is one machine; how busy it is, is a product, not a simulation.
"""

import argparse
import heapq
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache

DAY_S = 86_400.0
LEASE_S = 30.0


@dataclass(frozen=True)
class Costs:
    """CPU of one job in seconds, as docs/performance.md has them, and what one machine has."""

    fresh_cpu_s: float = field(default=0.270, metadata={"says": "CPU on the worker's host, fresh container"})
    reused_cpu_s: float = field(default=0.009, metadata={"says": "CPU on the worker's host, recycled cell"})
    database_cpu_s: float = field(default=0.0028, metadata={"says": "CPU of PostgreSQL for a job"})
    broker_cpu_s: float = field(default=0.0007, metadata={"says": "CPU of Valkey for a job"})
    api_cpu_s: float = field(default=0.0054, metadata={"says": "CPU of the API for a job"})


@dataclass(frozen=True)
class Day:
    """What is asked for, and of what."""

    jobs: int = field(default=1_000_000, metadata={"says": "jobs in a day"})
    peak: float = field(default=3.0, metadata={"says": "rate of the busiest moment, times the mean"})
    fresh: float = field(default=0.7, metadata={"says": "share of jobs with a container of their own"})
    program_cpu_s: float = field(default=0.25, metadata={"says": "mean CPU of a program"})
    program_wait_s: float = field(default=1.0, metadata={"says": "mean time that a program only waits"})
    hosts: int = field(default=100, metadata={"says": "hosts with a sandbox worker"})
    cores: int = field(default=2, metadata={"says": "cores of each"})
    slots: int = field(default=8, metadata={"says": "jobs at the same time on each (RETORT_JOBS)"})
    lost_hosts: int = field(default=20, metadata={"says": "hosts lost in the day, one at a time"})
    gone_s: float = field(default=300.0, metadata={"says": "seconds until a lost host is back"})
    stores_cores: int = field(default=8, metadata={"says": "cores of the database's machine"})
    threads_connections: int = field(default=6, metadata={"says": "connections of a worker beside 2 a slot"})


@dataclass(frozen=True)
class Result:
    """What came of a day; times in seconds."""

    finished: int
    rerun: int
    wait_mean_s: float
    wait_p50_s: float
    wait_p99_s: float
    wait_most_s: float
    longest_queue: int
    busy: float  # share of all slots, over the day


def erlang_c(servers: int, load: float) -> float:
    """The chance that a job has to wait, in M/M/c with an offered load in Erlang below the number of servers.

    >>> erlang_c(1, 0.5)
    0.5
    >>> round(erlang_c(2, 1.0), 6)
    0.333333
    """
    if not 0 <= load < servers:
        raise ValueError(f"{load:g} Erlang never fit {servers} servers")
    blocked = 1.0  # Erlang B, by its recursion
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait_s(servers: int, rate: float, service_s: float) -> float:
    """The mean wait in M/M/c.

    >>> mean_wait_s(1, 0.5, 1.0)
    1.0
    """
    load = rate * service_s
    return erlang_c(servers, load) * service_s / (servers - load)


def rate_at(day: Day, second: float) -> float:
    """Jobs a second: a wave with its trough at midnight and its crest at noon; its mean is that of the day."""
    mean = day.jobs / DAY_S
    swing = min(day.peak - 1, 1.0)
    wave = 1 - swing * math.cos(2 * math.pi * second / DAY_S)
    # Beyond twice the mean a wave would go below zero at night, so the crest is made narrower instead.
    sharp = 1.0 if day.peak <= 2 else _sharpness(day.peak)
    return float(mean * wave**sharp / _mean_power(swing, sharp))


@cache
def _mean_power(swing: float, sharp: float, steps: int = 1440) -> float:
    total: float = sum((1 - swing * math.cos(2 * math.pi * step / steps)) ** sharp for step in range(steps))
    return total / steps


@cache
def _sharpness(peak: float) -> float:
    """The power by which a wave from 0 to 2 has a crest of `peak` times its mean."""
    low, high = 1.0, 64.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 2**middle / _mean_power(1.0, middle) < peak else (low, middle)
    return (low + high) / 2


def arrivals(day: Day, chance: random.Random) -> Iterator[float]:
    """When jobs come, in order: a Poisson process whose rate is set anew each minute."""
    for minute in range(1440):
        rate = rate_at(day, 60 * minute + 30)
        at = 60.0 * minute
        while True:
            at += chance.expovariate(rate)
            if at >= 60 * (minute + 1):
                break
            yield at


def service_s(day: Day, costs: Costs) -> tuple[float, float]:
    """Mean time in a slot, and mean CPU on the host, of one job.

    Where all slots of a host together want more CPU than it has, each is slowed down in proportion.
    """
    cpu = day.program_cpu_s + day.fresh * costs.fresh_cpu_s + (1 - day.fresh) * costs.reused_cpu_s
    alone = cpu + day.program_wait_s
    wanted = day.slots * cpu / alone
    slowed = cpu * max(1.0, wanted / day.cores)
    return slowed + day.program_wait_s, cpu


def simulate(times: Sequence[float], day: Day, mean_s: float, chance: random.Random) -> Result:
    """Run jobs that come at these times; each takes an exponential time in a slot with this mean."""
    free = [(0.0, slot) for slot in range(day.hosts * day.slots)]
    losses = sorted((chance.uniform(0, DAY_S), chance.randrange(day.hosts)) for _ in range(day.lost_hosts))
    lost_at = {host: [at for at, which in losses if which == host] for _, host in losses}
    waits: list[float] = []
    starts: list[float] = []
    again: list[tuple[float, float]] = []  # when a lost job may be taken again, and when it first came
    busy, rerun, longest = 0.0, 0, 0
    coming = iter(times)
    following = next(coming, None)
    while following is not None or again:
        if again and (following is None or again[0][0] <= following):
            ready_at, came = heapq.heappop(again)
            first = False
        else:
            assert following is not None
            ready_at = came = following
            following = next(coming, None)
            first = True
        start, slot = _take(free, ready_at, lost_at, day)
        took = chance.expovariate(1 / mean_s)
        loss = next((at for at in lost_at.get(slot // day.slots, ()) if start < at < start + took), None)
        if loss is None:
            busy += took
            heapq.heappush(free, (start + took, slot))
        else:
            rerun += 1
            busy += loss - start
            heapq.heappush(again, (loss + LEASE_S, came))
            heapq.heappush(free, (loss + day.gone_s, slot))
        if first:
            waits.append(start - came)
            starts.append(max(start, starts[-1] if starts else start))  # who came first begins first
            longest = max(longest, len(starts) - bisect_right(starts, came))
    waits.sort()
    return Result(
        finished=len(waits),
        rerun=rerun,
        wait_mean_s=sum(waits) / len(waits) if waits else 0.0,
        wait_p50_s=_at(waits, 0.5),
        wait_p99_s=_at(waits, 0.99),
        wait_most_s=waits[-1] if waits else 0.0,
        longest_queue=longest,
        busy=busy / (day.hosts * day.slots * DAY_S),
    )


def _take(
    free: list[tuple[float, int]], ready_at: float, lost_at: dict[int, list[float]], day: Day
) -> tuple[float, int]:
    """The slot that is free first, on a host that is there then; and when that is."""
    while True:
        free_at, slot = heapq.heappop(free)
        start = max(ready_at, free_at)
        losses = lost_at.get(slot // day.slots, ())
        back_at = next((at + day.gone_s for at in losses if at <= start < at + day.gone_s), None)
        if back_at is None:
            return start, slot
        heapq.heappush(free, (back_at, slot))


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def report(day: Day, costs: Costs, result: Result) -> list[str]:
    """For people: what was assumed, and what came of it."""
    mean_s, cpu = service_s(day, costs)
    crest = max(rate_at(day, 60 * minute) for minute in range(1440))
    connections = day.hosts * (2 * day.slots + day.threads_connections)
    lines = ["assumed"]
    for part in (day, costs):
        lines += [f"  {_plain(getattr(part, each.name)):<12} {each.metadata['says']}" for each in fields(part)]
    lines += [
        "follows",
        f"  {day.jobs / DAY_S:<12.1f} jobs a second on average, {crest:.1f} at the crest",
        f"  {mean_s:<12.2f} seconds in a slot and {cpu:.3f} of CPU for a job",
        f"  {day.hosts * day.slots / mean_s:<12.0f} jobs a second can be done, {day.slots / mean_s:.1f} by one",
        f"  {crest * mean_s / (day.hosts * day.slots):<12.1%} of the slots are needed at the crest",
        f"  {crest * costs.database_cpu_s / day.stores_cores:<12.1%} of the database's cores, "
        f"{crest * costs.broker_cpu_s:.1%} of the broker's one, {crest * costs.api_cpu_s:.2f} cores of APIs",
        f"  {connections:<12d} connections to the database that workers keep",
        "simulated",
        f"  {result.finished:<12d} jobs ended, {result.rerun} of them run again as their host was lost",
        f"  {result.wait_mean_s:<12.3f} seconds of waiting on average, p50 {result.wait_p50_s:.3f}, "
        f"p99 {result.wait_p99_s:.3f}, at most {result.wait_most_s:.1f}",
        f"  {result.longest_queue:<12d} jobs waited at the worst moment",
        f"  {result.busy:<12.1%} of the slots were busy over the day",
    ]
    return lines


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def hosts_needed(day: Day, costs: Costs, wait_s: float) -> int:
    """The fewest hosts that keep the mean wait at the crest below `wait_s`, by M/M/c."""
    mean_s, _ = service_s(day, costs)
    crest = max(rate_at(day, 60 * minute) for minute in range(1440))
    hosts = max(1, math.ceil(crest * mean_s / day.slots))
    while crest * mean_s >= hosts * day.slots or mean_wait_s(hosts * day.slots, crest, mean_s) > wait_s:
        hosts += 1
    return hosts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description="A fleet on paper.")
    parser.add_argument("--seed", type=int, default=20261121)
    given = Day()
    for each in fields(Day):
        kind = type(getattr(given, each.name))
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, help=each.metadata["says"])
    chosen = vars(parser.parse_args(arguments))
    seed = chosen.pop("seed")
    day, costs = replace(given, **{name: value for name, value in chosen.items() if value is not None}), Costs()
    chance = random.Random(seed)  # noqa: S311 (a simulation)
    mean_s, _ = service_s(day, costs)
    result = simulate(list(arrivals(day, chance)), day, mean_s, chance)
    print("\n".join(report(day, costs, result)))
    print(f"by M/M/c     {hosts_needed(day, costs, 0.1)} hosts keep the mean wait at the crest below 0.1 s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
