"""Each limit of a job, reached by a program in a real cell: the verdict, and what it leaves in the facts."""

from dataclasses import dataclass, field
from typing import Any

import docker
import pytest

from domain.states import Verdict
from tests.integration.sandboxes import run_once
from tests.integration.tiers import TIERS

MB = 1 << 20

FILL = """
import os
n = 0
try:
    while True:
        with open(f'{folder}/f{{n}}', 'wb') as f:
            for _ in range(16): f.write(bytes(1 << 20))
        n += 1
except OSError as e:
    print(e.strerror)
    {then}
"""

INODES = """
n = 0
try:
    while True:
        open(f'/work/f{n}', 'w').close()
        n += 1
except OSError as e:
    print(e.strerror)
    raise SystemExit(1)
"""


@dataclass(frozen=True)
class Case:
    """A program and what must come of it; ...: not looked at."""

    name: str
    code: str
    verdict: Verdict
    stdout: Any = ...
    reason: Any = None
    limits: dict[str, Any] = field(default_factory=dict)
    runsc: Verdict | None = None  # on gVisor, where that is another; docs/tiers.md says why
    runsc_too: bool = True  # False: there it tells nothing that another does not


FULL = b"No space left on device\n"

CASES = [
    # Disk.
    Case("work folder full", FILL.format(folder="/work", then="raise"), Verdict.DISK_LIMIT, FULL),
    Case("temporary folder full", FILL.format(folder="/tmp", then="raise"), Verdict.DISK_LIMIT, FULL),
    Case("full and got over it", FILL.format(folder="/work", then="pass"), Verdict.OK, FULL),
    # gVisor counts no files.
    Case("no file more", INODES, Verdict.DISK_LIMIT, FULL, runsc_too=False),
    Case(
        "full, then tidied up, then failed for another reason",
        FILL.format(folder="/work", then="import shutil; [os.unlink(f) for f in os.listdir()]; 1 / 0"),
        Verdict.ERROR,
        FULL,
    ),
    Case(
        "a mapped file finds no room",
        "import mmap, os\n"
        "with open('/work/x', 'wb') as f: f.truncate(255 << 20)\n"
        "open('/work/y', 'wb').write(bytes(200 << 20))\n"
        "with open('/work/x', 'r+b') as f:\n"
        "    m = mmap.mmap(f.fileno(), 0)\n"
        "    for at in range(0, len(m), 4096): m[at] = 1",
        Verdict.DISK_LIMIT,
    ),
    Case(
        "a file beyond its largest size, and the signal for it",
        "import signal, os\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "fd = os.open('/work/x', os.O_CREAT | os.O_RDWR)\nos.truncate(fd, 1 << 50)",
        Verdict.DISK_LIMIT,
    ),
    Case(
        "a file of its largest size",
        "f = open('/work/x', 'wb')\nf.seek((256 << 20) - 1)\nf.write(b'xx')\nf.flush()",
        Verdict.DISK_LIMIT,
    ),
    Case("an error with room to spare", "open('/work/x', 'wb').write(bytes(1 << 20)); 1 / 0", Verdict.ERROR),
    # CPU time.
    Case(
        "busy",
        "while True: pass",
        Verdict.TIMEOUT,
        reason="cpu",
        limits={"cpu_s": 1, "timeout_s": 20},
    ),
    Case(
        "busy in children that are gone",
        "import os, time\n"
        "while True:\n"
        "    if os.fork() == 0:\n"
        "        end = time.process_time() + 0.1\n"
        "        while time.process_time() < end: pass\n"
        "        os._exit(0)\n"
        "    os.wait()",
        Verdict.TIMEOUT,
        reason="cpu",
        limits={"cpu_s": 1, "timeout_s": 20},
    ),
    Case(
        "asleep",
        "import time; time.sleep(2.5); print('up')",
        Verdict.OK,
        b"up\n",
        limits={"cpu_s": 1, "timeout_s": 20},
    ),
    Case(
        "wall time first",
        "while True: pass",
        Verdict.TIMEOUT,
        reason="wall",
        limits={"cpu_s": 60, "timeout_s": 1},
    ),
    # Memory.
    Case(
        "files in memory are memory",
        "open('/work/x', 'wb').write(bytes(100 << 20))",
        Verdict.OUT_OF_MEMORY,
        limits={"memory_mb": 64},
    ),
    Case(
        "shared memory is memory",
        "import mmap\nm = mmap.mmap(-1, 200 << 20)\nfor at in range(0, len(m), 4096): m[at] = 1",
        Verdict.OUT_OF_MEMORY,
        limits={"memory_mb": 64},
    ),
    Case(
        "a child lost, the program went on",
        "import os\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0: x = bytearray(200 << 20)\n"
        "    os.wait()\n"
        "print('went on')",
        Verdict.OK,
        b"went on\n",
        runsc=Verdict.OUT_OF_MEMORY,  # memory ends the sandbox there, not one process
        reason="2 of its processes were killed for memory; the program went on and exited with 0",
        limits={"memory_mb": 64},
    ),
    Case(
        "a child lost, the program failed for it",
        "import os\nif os.fork() == 0: x = bytearray(200 << 20)\nexit(os.wait()[1] and 3)",
        Verdict.OUT_OF_MEMORY,
        limits={"memory_mb": 64},
    ),
    Case(
        "killed by itself, near the limit",
        "import os\nx = bytearray(40 << 20)\nos.kill(os.getpid(), 9)",
        Verdict.SIGNALLED,
        limits={"memory_mb": 64},
    ),
    Case(
        "exit code 137, near the limit",
        "import os\nx = bytearray(40 << 20)\nos._exit(137)",
        Verdict.ERROR,
        limits={"memory_mb": 64},
    ),
    Case(
        "time is up, near the limit",
        "x = bytearray(40 << 20)\nwhile True: pass",
        Verdict.TIMEOUT,
        reason="wall",
        limits={"memory_mb": 64, "timeout_s": 1},
    ),
]


ON_TIERS = [
    pytest.param(case, runtime, id=f"{case.name}, {runtime}")
    for runtime in TIERS
    for case in CASES
    if runtime == "runc" or case.runsc_too
]


@pytest.mark.parametrize(("case", "runtime"), ON_TIERS)
def test_limit(engine: docker.DockerClient, image: str, case: Case, runtime: str) -> None:
    decision, ending = run_once(case.code, limits={"timeout_s": 20, **case.limits}, runtime=runtime)
    shown = (decision, ending.stdout[-300:], ending.stderr[-600:], ending.cpu_s, ending.oom_kills)
    if runtime == "runsc" and case.runsc is not None:
        assert decision.verdict is case.runsc, shown
        return
    assert (decision.verdict, decision.reason) == (case.verdict, case.reason), shown
    if case.stdout is not ...:
        assert ending.stdout == case.stdout, shown


def test_cpu_time_is_counted_over_all_processes(engine: docker.DockerClient, image: str) -> None:
    code = (
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        while time.process_time() < 0.3: pass\n"
        "        os._exit(0)\n"
        "for _ in range(4): os.wait()"
    )
    decision, ending = run_once(code, limits={"cpu_s": 1, "timeout_s": 20})
    assert (decision.verdict, decision.reason) == (Verdict.TIMEOUT, "cpu")
    assert ending.cpu_s is not None
    assert 1 <= ending.cpu_s < 2


def test_head_and_tail_of_a_flood(engine: docker.DockerClient, image: str) -> None:
    code = "import sys\nfor n in range(10**9): print(n)"
    decision, ending = run_once(code, limits={"output_bytes": 2048})
    assert decision.verdict is Verdict.OUTPUT_LIMIT
    assert ending.stdout_head == 1024
    assert len(ending.stdout) == 2048
    assert ending.stdout.startswith(b"0\n1\n2\n")
    # The tail is what it wrote last: the numbers around it tell how much was written.
    last = int(ending.stdout.rsplit(b"\n", 2)[-2])
    written = sum(len(str(n)) + 1 for n in range(last + 1))
    assert written <= ending.stdout_bytes < written + len(str(last)) + 2


def test_a_flood_does_not_crowd_out_the_other_stream(engine: docker.DockerClient, image: str) -> None:
    code = "import os\nos.write(2, b'why\\n')\nwhile True: os.write(1, b'x' * 4096)"
    decision, ending = run_once(code, limits={"output_bytes": 1024})
    assert decision.verdict is Verdict.OUTPUT_LIMIT
    assert (ending.stderr, ending.stderr_head, ending.stderr_bytes) == (b"why\n", None, 4)
    assert (len(ending.stdout), ending.stdout_head) == (1020, 510)


def test_text_is_cut_between_characters(engine: docker.DockerClient, image: str) -> None:
    _, ending = run_once("while True: print('é€🎈' * 50)", limits={"output_bytes": 1024})
    assert 1024 - 6 <= len(ending.stdout) <= 1024
    assert "\ufffd" not in ending.stdout.decode()


def test_exactly_as_much_as_is_allowed(engine: docker.DockerClient, image: str) -> None:
    decision, ending = run_once("print('x' * 1023)", limits={"output_bytes": 1024})
    assert (decision.verdict, len(ending.stdout), ending.stdout_head) == (Verdict.OK, 1024, None)
    decision, ending = run_once("print('x' * 1024)", limits={"output_bytes": 1024})
    assert (decision.verdict, len(ending.stdout), ending.stdout_head) == (Verdict.OUTPUT_LIMIT, 1024, 512)
    assert ending.stdout_bytes == 1025
