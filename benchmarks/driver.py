"""One cell and the program in it: from the host to a result and back, without queue, database or HTTP."""

import time
from collections.abc import Iterator

from benchmarks import cgroups
from benchmarks.containers import Bench
from benchmarks.document import Measurement
from benchmarks.pace import Pace
from benchmarks.stats import percentile
from worker.sandbox.cell import Cell
from worker.sandbox.running import Ending, Program

FILE = "main.py"
HELLO = b"print(1)\n"

#: Prints how long the computation took, its data included, the import not.
PANDAS = b"""\
import time
import numpy, pandas
began = time.perf_counter()
random = numpy.random.default_rng(7)
frame = pandas.DataFrame({"key": random.integers(0, 100, 100_000), "value": random.random(100_000)})
result = frame.groupby("key")["value"].agg(["mean", "std", "max"])
print(1e3 * (time.perf_counter() - began), len(result))
"""

#: Between the end of one thing and the next, so that whatever a cell still does is done.
PAUSE_S = 0.005
PRELOAD_WITHIN_S = 120.0


class DriverError(Exception):
    """A program of ours did not end as it must; its time would mean nothing."""


def measure(bench: Bench, pace: Pace) -> Iterator[Measurement]:
    """All of the driver."""
    pace.settle()
    yield _recycled(bench, pace)
    pace.settle()
    yield from _fresh(bench, pace)
    pace.settle()
    yield from _preloaded(bench, pace)


def timed(cell: Cell, code: bytes, expected: bytes | None, *, reset: bool = False) -> tuple[float, Ending]:
    """Milliseconds of a run, and how it ended."""
    program = Program(code=code, file=FILE, limits=cell.spec.limits)
    began = time.perf_counter()
    ending = cell.run(program, reset=reset)
    ms = 1e3 * (time.perf_counter() - began)
    if ending.status != 0 or (expected is not None and ending.stdout != expected):
        raise DriverError(f"status {ending.status}, stdout {ending.stdout!r}, stderr {ending.stderr!r}")
    return ms, ending


def _clean(cell: Cell) -> None:
    left = cell.wait_clean()
    if left is not None:
        raise DriverError(f"a cell was not clean: {left}")
    time.sleep(PAUSE_S)


def _recycled(bench: Bench, pace: Pace) -> Measurement:
    pace.say("driver: recycled cell")
    with bench.cell() as cell:
        file = cgroups.cpu_file(bench.engine.inspect(cell.id)["State"]["Pid"])
        for _ in range(20):
            timed(cell, HELLO, b"1\n", reset=True)
            _clean(cell)
        inside, here = cgroups.read(file), time.thread_time()
        times = []
        for _ in range(pace.recycled):
            times.append(timed(cell, HELLO, b"1\n", reset=True)[0])
            _clean(cell)
        after = cgroups.read(file)
        return Measurement.of_times(
            "driver.recycled",
            "driver: print(1), recycled cell",
            times,
            cpu_in_container_ms=_each(inside, after, pace.recycled),
            cpu_in_driver_ms=_each(here, time.thread_time(), pace.recycled),
        )


def _each(before: float | None, after: float | None, count: int) -> float | None:
    return None if before is None or after is None else 1e3 * (after - before) / count


def _fresh(bench: Bench, pace: Pace) -> Iterator[Measurement]:
    pace.say("driver: fresh cells")
    starts, times, boots = [], [], []
    for _ in range(pace.fresh_cells):
        began = time.perf_counter()
        with bench.cell() as cell:
            starts.append(1e3 * (time.perf_counter() - began))
            time.sleep(0.2)  # the runner has parked its first process
            boot = cgroups.read(cgroups.cpu_file(bench.engine.inspect(cell.id)["State"]["Pid"]))
            if boot is not None:
                boots.append(1e3 * boot)
            times.append(timed(cell, HELLO, b"1\n")[0])
    yield Measurement.of_times(
        "driver.cold",
        "driver: start of a cell, from create to ready",
        starts,
        cpu_in_container_p50_ms=percentile(boots, 50),
    )
    yield Measurement.of_times("driver.fresh", "driver: print(1), first job of a waiting cell", times)


def _preload(cell: Cell) -> float:
    """Milliseconds until the packages are imported."""
    began = time.perf_counter()
    cell.preload()
    while cell.alive() and cell.preloading:
        if time.perf_counter() - began > PRELOAD_WITHIN_S:
            raise DriverError("preloading does not end")
        time.sleep(0.005)
    ms = 1e3 * (time.perf_counter() - began)
    if not cell.preloaded:
        raise DriverError("preloading failed")
    cell.settle()
    time.sleep(0.1)
    return ms


def _preloaded(bench: Bench, pace: Pace) -> Iterator[Measurement]:
    pace.say("driver: preloaded cells")
    preloads, times = [], []
    for _ in range(pace.preloaded_cells):
        with bench.cell() as cell:
            preloads.append(_preload(cell))
            times.append(timed(cell, HELLO, b"1\n")[0])
    first: list[tuple[float, float]] = []
    later: list[tuple[float, float]] = []
    for _ in range(pace.pandas_cells):
        with bench.cell() as cell:
            preloads.append(_preload(cell))
            for kept in (first, later, later, later):
                ms, ending = timed(cell, PANDAS, None, reset=True)
                kept.append((ms, float(ending.stdout.split()[0])))
                _clean(cell)
    yield Measurement.of_times(
        "driver.preload", "driver: import of the heavy packages, while a cell waits", preloads
    )
    yield Measurement.of_times("driver.preloaded", "driver: print(1), first job of a preloaded cell", times)
    for key, name, pairs in (("pandas", "first job", first), ("pandas.recycled", "recycled cell", later)):
        title = f"driver: pandas groupby, preloaded, {name}"
        yield Measurement.of_times(f"driver.{key}", title, [whole for whole, _ in pairs])
        added = [whole - inside for whole, inside in pairs]
        yield Measurement.of_times(f"driver.{key}.added", "  of which not the computation", added)
