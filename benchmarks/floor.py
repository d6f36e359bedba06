"""What the engine and the interpreter cost by themselves: nothing that uses them can be faster."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.containers import Bench
from benchmarks.document import Measurement
from benchmarks.pace import Pace
from benchmarks.stats import percentile

TRUE = ("/bin/true",)
PRINT = ("python3", "-c", "print(1)")
PARALLEL = 4

#: Runs inside a container: start an interpreter so often and print how long each took, in milliseconds.
_STARTS = """
import json, os, sys, time
count, command = int(sys.argv[1]), ["python3", *sys.argv[2:]]
quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
times = []
for _ in range(count):
    began = time.perf_counter()
    pid = os.posix_spawn("/usr/bin/python3", command, os.environ, file_actions=quiet)
    status = os.waitpid(pid, 0)[1]
    times.append(1e3 * (time.perf_counter() - began))
    assert status == 0, status
print(json.dumps(times))
"""


def measure(bench: Bench, pace: Pace) -> Iterator[Measurement]:
    """All of the floor."""
    for key, title, command in (("true", "/bin/true", TRUE), ("python", "python3 -c 'print(1)'", PRINT)):
        pace.say(f"a container per run: {title}")
        pace.settle()
        yield _sequential(bench, f"floor.{key}", title, command, pace.floor_runs)
        yield _parallel(bench, f"floor.{key}.parallel", title, command, pace.floor_s)
    pace.settle()
    yield from _interpreter(bench, pace)
    docker = shutil.which("docker")
    if docker is None:
        pace.say("no docker client on PATH: docker run and docker exec are not measured")
    else:
        yield from _client(bench, pace, docker)


def _life(bench: Bench, command: Sequence[str]) -> dict[str, float]:
    """Create, start, wait, remove: milliseconds of each."""
    engine, stages = bench.engine, {}
    marks = [time.perf_counter()]
    container = engine.create(bench.plain(command))
    try:
        marks.append(time.perf_counter())
        engine.start(container)
        marks.append(time.perf_counter())
        code = engine.wait(container, 30)
        marks.append(time.perf_counter())
    finally:
        engine.remove(container)
    marks.append(time.perf_counter())
    assert code == 0, f"{command} ended with {code}"
    for name, begin, end in zip(("create", "start", "wait", "remove"), marks, marks[1:], strict=False):
        stages[name] = 1e3 * (end - begin)
    return stages


def _sequential(bench: Bench, key: str, title: str, command: Sequence[str], count: int) -> Measurement:
    _life(bench, command)
    lives = [_life(bench, command) for _ in range(count)]
    stages = {name: percentile([life[name] for life in lives], 50) for name in lives[0]}
    name = f"engine: create, start, wait, remove; {title}"
    return Measurement.of_times(key, name, [sum(life.values()) for life in lives], stages_p50_ms=stages)


def _parallel(bench: Bench, key: str, title: str, command: Sequence[str], seconds: float) -> Measurement:
    ended: list[float] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                _life(bench, command)
                ended.append(time.perf_counter())
        except BaseException as e:
            failed.append(e)
            raise

    threads = [threading.Thread(target=work) for _ in range(PARALLEL)]
    for thread in threads:
        thread.start()
    time.sleep(1)  # until all are in their stride
    began = time.perf_counter()
    time.sleep(seconds)
    until = time.perf_counter()
    stop.set()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    rate = sum(began < moment <= until for moment in ended) / (until - began)
    return Measurement(key, f"the same, {PARALLEL} in parallel; {title}", per_s=rate)


def _interpreter(bench: Bench, pace: Pace) -> Iterator[Measurement]:
    pace.say("starts of the interpreter inside a container")
    for key, flags in (("bare", ()), ("isolated", ("-I", "-S"))):
        command = ["python3", "-c", _STARTS, str(pace.starts), *flags, "-c", "print(1)"]
        times = json.loads(bench.output(command))
        title = " ".join(("inside: fork and exec of python3", *flags, "-c 'print(1)'"))
        yield Measurement.of_times(f"floor.interpreter.{key}", title, times)


def _client(bench: Bench, pace: Pace, docker: str) -> Iterator[Measurement]:
    pace.say("docker run and docker exec")
    base = [docker, "run", "--rm", "--network=none", "--log-driver=none"]
    run = [*base, "--entrypoint=/bin/true", bench.image]
    yield Measurement.of_times("floor.run", "docker run /bin/true", _times(run, pace.floor_runs))
    container = bench.engine.create(bench.plain(("sleep", "600")))
    try:
        bench.engine.start(container)
        for key, title, command in (
            ("exec", "/bin/true", TRUE),
            ("exec.python", "python3 -c 'print(1)'", PRINT),
        ):
            times = _times([docker, "exec", container, *command], pace.floor_runs)
            yield Measurement.of_times(f"floor.{key}", f"docker exec {title}", times)
    finally:
        bench.engine.remove(container)


def _times(command: Sequence[str], count: int) -> list[float]:
    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=60)
        return 1e3 * (time.perf_counter() - began)

    return repeat(once, count)


def repeat(once: Callable[[], float], count: int) -> list[float]:
    """So many times, after one that does not count."""
    once()
    return [once() for _ in range(count)]
