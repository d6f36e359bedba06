"""Too many processes, too much processor, no end."""

from tests.hostile.entries import Program, Result, probe

SOON = {"timeout_s": 2}
CPU_SLACK = 1.25  # the kernel hands out time in slices


def _ended_on_time(result: Result) -> None:
    wall_s, limit_s = result.usage["wall_s"], result.job["limits"]["timeout_s"]
    assert limit_s <= wall_s <= limit_s + 1, result.usage
    _spent(result, result.job["limits"]["cpus"])


def _spent(result: Result, cpus: float) -> None:
    usage = result.usage
    if usage["cpu_s"] is not None:
        assert usage["cpu_s"] <= cpus * usage["wall_s"] * CPU_SLACK + 0.3, usage


def _pids_bounded(result: Result) -> None:
    assert 16 <= result.found["processes"] <= 132, result.found  # four are for the runner and its helpers
    assert result.found["then"] == "EAGAIN"


def _says(result: Result, what: bytes) -> None:
    assert what in result.err, result.err[-500:]


def _soon(result: Result) -> None:
    assert result.usage["wall_s"] < 10, result.usage


def _all_in(result: Result, allowed: set[str | int | None]) -> None:
    assert set(result.found.values()) <= allowed, result.found


ENTRIES = [
    Program(
        "fork_bomb",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        ("timeout",),
        on_runsc=("timeout", "error", "sandbox_crash"),
        limits={"timeout_s": 3},
        look=lambda r: _spent(r, 1.0),
        fast=True,
    ),
    Program(
        "fork_until_refused",
        probe(
            """
import time
count = 0
def fork():
    global count
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
attempt('then', fork)
found['processes'] = count
"""
        ),
        on_runsc=("ok", "error", "timeout", "out_of_memory", "sandbox_crash"),
        look=_pids_bounded,
        look_on_runsc=lambda _: None,  # processes are not counted inside, and cost memory
    ),
    Program(
        "shell_fork_bomb",
        "import os\nos.execv('/bin/bash', ['bash', '-c', ':(){ :|:& };: ; while :; do :; done'])",
        ("timeout",),
        on_runsc=("timeout", "error", "sandbox_crash"),
        limits={"timeout_s": 3},
    ),
    Program(
        "fork_bomb_of_sessions",
        # Each child leaves its session and group and ignores what it may: only its user id finds it.
        "import os, signal\n"
        "for s in range(1, 65):\n"
        "    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: os.setsid()\n"
        "    except OSError: pass",
        ("timeout",),
        on_runsc=("timeout", "error", "sandbox_crash"),
        limits=SOON,
    ),
    Program(
        "thread_bomb",
        "import threading, time\n"
        "for _ in range(100_000): threading.Thread(target=time.sleep, args=(300,), daemon=True).start()",
        ("error",),
        look=lambda r: _says(r, b"can't start new thread"),
        fast=True,
    ),
    Program(
        "daemon_outlives_main",
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        for fd in (0, 1, 2): os.close(fd)\n"
        "        time.sleep(300)\n"
        "    os._exit(0)\n"
        "os.wait()\nprint('main ends')",
        stdout="main ends\n",
        fast=True,
    ),
    Program(
        "child_holds_stdout",
        "import os, time\nif os.fork() == 0:\n    time.sleep(300)\nprint('main ends')",
        stdout="main ends\n",
        look=_soon,
    ),
    Program("busy_loop", "while True: pass", ("timeout",), limits=SOON, look=_ended_on_time),
    Program(
        "busy_processes",
        "import os\nfor _ in range(3): os.fork()\nwhile True: pass",
        ("timeout",),
        limits={"timeout_s": 3, "cpus": 0.5},
        look=_ended_on_time,
    ),
    Program("sleep_past_the_limit", "import time\ntime.sleep(60)", ("timeout",), limits={"timeout_s": 1}),
    Program("huge_power", "9**9**9", ("timeout",), limits={"timeout_s": 1}, look=_ended_on_time),
    Program(
        "catastrophic_regex",
        "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')",
        ("timeout",),
        limits={"timeout_s": 1},
    ),
    Program(
        "stops_itself",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        ("timeout",),
        limits={"timeout_s": 1},
    ),
    Program(
        "raises_its_own_limits",
        probe(
            """
import resource
for name in ('NPROC', 'NOFILE', 'FSIZE', 'CORE', 'MEMLOCK', 'MSGQUEUE'):
    which = getattr(resource, 'RLIMIT_' + name, 12)
    soft, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        attempt(name, lambda: resource.setrlimit(which, (hard, hard + 1)))
attempt('nice', lambda: os.nice(-1))
attempt('priority', lambda: os.setpriority(os.PRIO_USER, 0, -1))
attempt('real-time', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
"""
        ),
        look=lambda r: _all_in(r, {"EPERM", "EACCES", "ValueError"}),
        # gVisor keeps the priorities that are asked for, and does nothing with them.
        look_on_runsc=lambda r: _all_in(r, {"EPERM", "EACCES", "ValueError", "EINVAL", -1, None}),
    ),
]
