"""Each limit, tried out: a program that would break it runs in a cell of its own, and must end as it should.

What is proven is what a user relies on: that the limit ends or refuses the program on this very host, engine
and kernel, not that a setting is present.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from domain.limits import Profile
from domain.states import Runtime, Verdict
from worker.sandbox.cell import Cell
from worker.sandbox.check import Check
from worker.sandbox.engine import Engine, EngineError
from worker.sandbox.running import Program
from worker.sandbox.spec import CellSpec, new_uid
from worker.sandbox.stream import CellLost
from worker.sandbox.verdict import Decision, decide


@dataclass(frozen=True, slots=True)
class Trial:
    """A program, its limits, and how it must end: verdict, reason, and what it prints (None: anything).

    `runsc`: what else is right on gVisor, where a limit is kept in another way.
    """

    limit: str
    name: str
    code: str
    verdict: Verdict
    output: str | None = None
    reason: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    runsc: frozenset[Verdict] = frozenset()
    runc_only: bool = False


TRIALS = (
    Trial(
        "memory",
        "memory limit",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        Verdict.OUT_OF_MEMORY,
        limits={"memory_mb": 64},
    ),
    Trial(
        "memory",
        "memory limit for files in memory",
        "open('/work/x', 'wb').write(bytes(120 << 20))",
        Verdict.OUT_OF_MEMORY,
        limits={"memory_mb": 64},
    ),
    Trial("time", "time limit", "while True: pass", Verdict.TIMEOUT, reason="wall", limits={"timeout_s": 1}),
    Trial("time", "CPU time limit", "while True: pass", Verdict.TIMEOUT, reason="cpu", limits={"cpu_s": 1}),
    Trial(
        "output",
        "output limit",
        "while True: print('x' * 1000)",
        Verdict.OUTPUT_LIMIT,
        limits={"output_bytes": 4096},
    ),
    Trial(
        "pids",
        "process limit",
        "import os, sys, time\n"
        "n = 0\n"
        "try:\n"
        "    while n < 5000:\n"
        "        if os.fork() == 0: time.sleep(60)\n"
        "        n += 1\n"
        "except OSError: print('limited' if n < 1000 else n)",
        Verdict.OK,
        "limited",
        # gVisor counts no processes inside; what they cost is bounded by the memory of the sandbox.
        runsc=frozenset({Verdict.OUT_OF_MEMORY}),
        limits={"timeout_s": 20},
    ),
    Trial(
        "disk",
        "disk limit",
        "import os\n"
        "try:\n"
        "    for i in range(64):\n"
        "        with open(f'/work/{i}', 'wb') as f:\n"
        "            for _ in range(32): f.write(bytes(1 << 20))\n"
        "except OSError as e:\n"
        "    print(os.strerror(e.errno)); raise",
        Verdict.DISK_LIMIT,
        "No space left on device",
    ),
    Trial(
        "disk",
        "limit of the number of files",
        "for n in range(30000): open(f'/work/{n}', 'w').close()",
        Verdict.DISK_LIMIT,
        runc_only=True,  # gVisor counts no files; they are memory, and there is a limit of that
        limits={"timeout_s": 60},
    ),
    Trial(
        "network",
        "no network",
        "import socket\n"
        "got = []\n"
        "for family, address in ((socket.AF_INET, ('192.0.2.1', 9)), (socket.AF_INET6, ('2001:db8::1', 9))):\n"
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "        try:\n"
        "            s = socket.socket(family, kind); s.settimeout(3)\n"
        "            s.connect(address); got.append(address)\n"
        "        except TimeoutError: got.append('a silence')\n"
        "        except OSError: pass\n"
        "print(got or 'unreachable')",
        Verdict.OK,
        "unreachable",
    ),
    Trial(
        "capabilities",
        "no capability is of use",
        "import os, socket\n"
        "def setuid(): os.setuid(0)\n"
        "def chroot(): os.chroot('/work')\n"
        "def node(): os.mknod('/work/disk', 0o60666, os.makedev(8, 0)); os.open('/work/disk', 0)\n"
        "def chown(): os.chown('/etc/passwd', os.getuid(), -1)\n"
        "def signal(): os.kill(1, 9)\n"
        "def raw(): socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\n"
        "def name(): socket.sethostname('other')\n"
        "got = []\n"
        "for act in (setuid, chroot, node, chown, signal, raw, name):\n"
        "    try: act(); got.append(act.__name__)\n"
        "    except OSError: pass\n"
        "print(got or 'refused')",
        Verdict.OK,
        "refused",
    ),
    Trial(
        "seccomp",
        "system calls that no program needs",
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "calls = {'ptrace': 101, 'mount': 165, 'keyctl': 250, 'unshare': 272, 'perf_event_open': 298,\n"
        "         'bpf': 321, 'userfaultfd': 323, 'io_uring_setup': 425}\n"
        "got = [n for n, c in calls.items() if libc.syscall(c, 0x10000000, 0, 0, 0, 0) >= 0]\n"
        "print(got or 'refused')",
        Verdict.OK,
        "refused",
    ),
)


def right(trial: Trial, runtime: str, decision: Decision, output: str) -> bool:
    """Whether a trial ended as it must."""
    if runtime == Runtime.RUNSC and decision.verdict in trial.runsc:
        return True
    return (
        decision.verdict is trial.verdict
        and trial.output in (None, output)
        and trial.reason in (None, decision.reason)
    )


def prove(engine: Engine, image: str, runtime: str, instance: str, profile: Profile) -> Iterator[Check]:
    """Run every trial, each in a fresh cell."""
    for trial in TRIALS:
        if trial.runc_only and runtime == Runtime.RUNSC:
            continue
        limits = profile.resolve(trial.limits)
        # As a job's cell is made: on gVisor with the job's limits, else with the profile's, to be changed.
        begun = limits if runtime == Runtime.RUNSC else profile.defaults
        cell = Cell(engine, CellSpec(image, profile, runtime, instance, "posture", new_uid(), begun))
        expected = f"{trial.verdict} {trial.output or ''}".strip()
        try:
            cell.start()
            ending = cell.run(Program(trial.code.encode(), "probe.py", limits))
        except (CellLost, EngineError) as e:
            yield Check(trial.name, False, expected, str(e)[:300], trial.limit)
            continue
        finally:
            cell.destroy()
        decision = decide(ending)
        output = ending.stdout.decode(errors="replace").strip()
        why = f" ({decision.reason})" if decision.reason else ""
        found = f"{decision.verdict}{why} {output[:60]}".strip()
        yield Check(trial.name, right(trial, runtime, decision, output), expected, found, trial.limit)
