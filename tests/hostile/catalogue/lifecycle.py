"""Signals and endings: a program may end as it likes, and what is told of it is what happened."""

import signal

from tests.hostile.entries import Program, Result


def _with(result: Result, code: int) -> None:
    assert (result.job["exit_code"], result.job["signal"]) == (code, None), result.job


def _by(result: Result, number: int) -> None:
    assert (result.job["exit_code"], result.job["signal"]) == (None, number), result.job


ENTRIES = [
    Program(
        "ignores_every_signal",
        "import signal\nfor s in range(1, 65):\n"
        "    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: pass",
        ("timeout",),
        limits={"timeout_s": 1},
        fast=True,
    ),
    Program(
        "kills_everything",
        "import os, signal, subprocess\n"
        "refused = []\n"
        "for pid in [1, *(int(p) for p in os.listdir('/proc') if p.isdigit())]:\n"
        "    if pid != os.getpid():\n"
        "        for s in (9, 15, 19, 17, 64):\n"
        "            try: os.kill(pid, s); refused.append(f'{pid} took {s}')\n"
        "            except OSError as e: refused.append(e.errno)\n"
        "print(set(refused))\n"
        "try: os.kill(-1, 9)\nexcept ProcessLookupError: pass  # as gVisor says it\nprint('alive')",
        stdout="{1}\nalive\n",
        fast=True,
    ),
    Program(
        "kills_its_group",
        "import os\nos.killpg(0, 9)",
        ("signalled",),
        look=lambda r: _by(r, signal.SIGKILL),
    ),
    *(
        Program(
            f"exits_{code}",
            f"import os\nos._exit({code})",
            ("error",) if code & 0xFF else ("ok",),
            look=lambda r, code=code: _with(r, code & 0xFF),  # type: ignore[misc]
        )
        for code in (125, 126, 127, 137, 143, 255, 256)
    ),
    *(
        Program(
            f"ends_by_{which.name.lower()}",
            f"import os, resource\nos.kill(os.getpid(), {which.value})",
            ("signalled",),
            look=lambda r, which=which: _by(r, which),  # type: ignore[misc]
        )
        for which in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSYS)
    ),
    Program("aborts", "import os\nos.abort()", ("signalled",), look=lambda r: _by(r, signal.SIGABRT)),
    Program(
        "segfault", "import ctypes\nctypes.string_at(0)", ("signalled",), look=lambda r: _by(r, signal.SIGSEGV)
    ),
    Program(
        "bus_error",
        "import mmap, os\n"
        "fd = os.open('/work/x', os.O_CREAT | os.O_RDWR)\n"
        "os.ftruncate(fd, 8192)\n"
        "m = mmap.mmap(fd, 8192)\n"
        "os.ftruncate(fd, 0)\n"
        "m[5000]",
        ("signalled",),
        look=lambda r: _by(r, signal.SIGBUS),
    ),
    Program(
        "endless_recursion_in_c",
        "import sys\nsys.setrecursionlimit(10**9)\nclass A: pass\nA.__call__ = A()\nA()()",
        ("signalled", "error"),
    ),
    Program(
        "exits_before_its_work",
        "raise SystemExit(0)\nassert False, 'tests'",
        stdout="",
        look=lambda r: _with(r, 0),
    ),
    Program("exits_with_text", "raise SystemExit('\\ud800')", ("error",), look=lambda r: _with(r, 1)),
    Program(
        "breaks_its_interpreter",
        "import sys, builtins, os\n"
        "sys.stdout = sys.stderr = None\nsys.excepthook = None\nbuiltins.print = None\n"
        "os.write = os._exit = None\nsys.modules.clear()\nraise ValueError('x')",
        ("error", "signalled"),
    ),
]
