"""How soon a program is dead after its limit, and what its neighbour notices of a bomb meanwhile."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.containers import Bench
from benchmarks.document import Measurement
from benchmarks.load import connect, one_by_one, request
from benchmarks.pace import Pace
from benchmarks.service import Service
from worker.sandbox.running import Program

FORKS = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
BUSY = "while True: pass"

BOMBS = {
    "busy": BUSY,
    "forks": FORKS,
    "threads": (
        "import threading, time\n"
        "while True:\n"
        "    try: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "    except RuntimeError: pass"
    ),
    "memory": "import os\nwhile True:\n    if os.fork() == 0: x = b'x' * (600 << 20)\n    os.wait()",
    "files": "while True:\n    for i in range(99): open(f'/work/{i}', 'wb').write(bytes(2 << 20))",
    "output": "import os\nwhile True: os.write(1, b'x' * 65536)",
}

LIMIT_S = 1
BOMB_S = 3

#: A bomb that is over at once is not thrown again before so many seconds: what more jobs than a machine can do
#: cost others is a question of shares, and measured in `benchmarks.fairness`.
BOMB_EVERY_S = 1.0
TOGETHER = 4

#: Seconds after which a process that does not die is given up; its time is then this.
PATIENCE_S = 60.0


def measure(bench: Bench, pace: Pace) -> Iterator[Measurement]:
    """All of it."""
    pace.settle()
    pace.say(f"hostile: programs killed at their limit, {TOGETHER} at a time")
    yield _killed(bench, "kill.busy", "busy programs", BUSY, pace.kills, TOGETHER)
    pace.settle()
    pace.say("hostile: fork bombs killed at their limit")
    yield _killed(bench, "kill.forks", "fork bombs", FORKS, max(2, pace.kills // 5), 1)
    yield from _neighbours(pace)


def _killed(bench: Bench, key: str, title: str, code: str, count: int, together: int) -> Measurement:
    with ThreadPoolExecutor(together) as threads:
        late = list(threads.map(lambda _: _kill(bench, code), range(count)))
    words = f"kill: {title}, {together} at a time, dead after the limit"
    return Measurement.of_times(f"hostile.{key}", words, late, limit_s=LIMIT_S)


def _kill(bench: Bench, code: str) -> float:
    """Milliseconds from a program's limit to the end of its last process, as the host sees it."""
    with bench.cell() as cell:
        program = Program(code.encode(), "main.py", bench.profile.resolve({"timeout_s": LIMIT_S}))
        began = time.monotonic()
        ending = cell.run(program)
        if not ending.timed_out:
            raise RuntimeError(f"a program that never ends ended: {ending.stderr[-300:]!r}")
        while _alive(cell.spec.uid) and time.monotonic() < began + PATIENCE_S:
            time.sleep(0.005)
        return 1e3 * (time.monotonic() - began - LIMIT_S)


def _alive(uid: int) -> bool:
    """Whether a process of this user is left; each container's guest has a user of its own."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid and b") Z " not in _stat(name):
                    return True
            except OSError:
                continue
    return False


def _stat(pid: str) -> bytes:
    return Path(f"/proc/{pid}/stat").read_bytes()


def _neighbours(pace: Pace) -> Iterator[Measurement]:
    with Service() as service:
        wanted = request(service.address, service.key, {"code": "print(1)"})
        one_by_one(service.address, wanted, 3)
        pace.settle()
        pace.say("hostile: a neighbour, idle")
        idle = [a.ms for a in one_by_one(service.address, wanted, pace.neighbours, pace.neighbour_pause_s)]
        yield Measurement.of_times(
            "hostile.neighbour.idle", "neighbour: fresh container each, nothing else", idle
        )
        for name, code in BOMBS.items():
            pace.settle()
            pace.say(f"hostile: a neighbour of a bomb ({name})")
            bomb = request(service.address, service.key, {"code": code, "limits": {"timeout_s": BOMB_S}})
            with _Bombing(service.address, bomb):
                answers = one_by_one(service.address, wanted, pace.neighbours, pace.neighbour_pause_s)
            title = f"neighbour: the same, beside a bomb of {name}"
            yield Measurement.of_times(f"hostile.neighbour.{name}", title, [a.ms for a in answers])


class _Bombing:
    """One bomb after the other, until the block ends."""

    def __init__(self, address: tuple[str, int], bomb: bytes) -> None:
        self._address = address
        self._bomb = bomb
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._throw)

    def _throw(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            with connect(self._address) as connection:
                connection.sendall(self._bomb)
                connection.recv(1 << 16)  # it has ended; how, is the tests' subject
            self._stop.wait(began + BOMB_EVERY_S - time.monotonic())

    def __enter__(self) -> None:
        self._thread.start()
        time.sleep(0.5)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
