"""Too much memory, in every place where memory can be taken."""

from tests.hostile.entries import Program, Result, probe

MB = 1 << 20
RUNNER_MB = {"runc": 24, "runsc": 56}
SMALL = {"timeout_s": 20, "memory_mb": 64}


def _peak_within_limit(result: Result) -> None:
    # What the runner does not use of its own part, a program can take; what the imports of
    # a warm cell hold is allowed beside it, rounded up to whole megabytes (a peak of 0.17 MB more was seen once).
    limit = (result.job["limits"]["memory_mb"] + RUNNER_MB[result.job["runtime"]] + 2) * MB
    peak = result.usage["peak_memory_bytes"]
    assert peak is None or peak <= limit, result.usage


def _shm_is_small(result: Result) -> None:
    found = result.found
    assert found["then"] in {"ENOSPC", "EFBIG"}, found
    assert found["mb"] <= 16, found


def _work_is_bounded(result: Result) -> None:
    found = result.found
    assert found["then"] in {"ENOSPC", "EFBIG"}, found
    assert found["mb"] <= 256, found


def _locked(result: Result) -> None:
    found = result.found
    assert found.pop("large mlock") in {"EPERM", "ENOMEM"}
    assert found.pop("huge page") in {"EPERM", "ENOMEM", "EINVAL", "ENOSYS"}
    assert found.pop("huge file") in {"EPERM", "ENOMEM", "EINVAL", "ENOSYS", "ENOENT"}
    assert set(found.values()) <= {"EPERM", "ENOSYS", "EACCES"}, found


def _says_memory_error(result: Result) -> None:
    assert b"MemoryError" in result.err, result.err


FILL = """
mb = 0
def fill():
    global mb
    for number in range(100):
        with open(f'{PLACE}/{number}', 'wb', buffering=0) as file:
            for _ in range(32):
                if file.write(bytes(1 << 20)) < 1 << 20: raise OSError(errno.ENOSPC, 'short')
                mb += 1
attempt('then', fill)
found['mb'] = mb
"""

ENTRIES = [
    Program(
        "allocate_at_once",
        "x = b'x' * (200 << 20)",
        ("out_of_memory",),
        on_runsc=("out_of_memory", "error", "signalled"),
        limits=SMALL,
        look=_peak_within_limit,
    ),
    Program(
        "allocate_slowly",
        "x = []\nwhile True: x.append(b'x' * (1 << 20))",
        ("out_of_memory",),
        limits=SMALL,
        look=_peak_within_limit,
        fast=True,
    ),
    Program(
        "allocate_the_impossible",
        "x = bytearray(1 << 50)",
        ("error",),
        limits=SMALL,
        look=_says_memory_error,
    ),
    Program(
        "dodges_the_killer",
        # A process that lowers its score would leave the runner to be killed instead.
        "try: open('/proc/self/oom_score_adj', 'w').write('-1000')\n"
        "except OSError as e: print(type(e).__name__, flush=True)\n"
        "x = []\nwhile True: x.append(b'x' * (1 << 20))",
        ("out_of_memory",),
        limits=SMALL,
        look=_peak_within_limit,
    ),
    Program("shm_bomb", probe("PLACE = '/dev/shm'\n" + FILL), look=_shm_is_small, fast=True),
    Program("work_folder_bomb", probe("PLACE = '/work'\n" + FILL), ("ok", "disk_limit"), look=_work_is_bounded),
    Program(
        "files_in_memory",
        # Files are memory too: with little of it, they are what ends it.
        "for i in range(8):\n    with open(f'/work/{i}', 'wb') as f: f.write(bytes(32 << 20))",
        ("out_of_memory",),
        limits=SMALL,
    ),
    Program(
        "anonymous_files",
        "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, bytes(1 << 20))",
        ("out_of_memory", "signalled", "error"),
        limits=SMALL,
    ),
    Program(
        "shared_mappings",
        "import mmap\nx = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 20)\n    m.write(b'x' * (1 << 20))\n    x.append(m)",
        ("out_of_memory",),
        limits=SMALL,
    ),
    Program(
        "locked_and_shared_memory",
        probe(
            """
size = 1 << 30
attempt('System V', lambda: call(libc.shmget, 0, 1 << 20, 0o1777))
attempt('semaphores', lambda: call(libc.semget, 0, 1, 0o1777))
attempt('messages', lambda: call(libc.msgget, 0, 0o1777))
attempt('queue', lambda: call(libc.mq_open, ctypes.c_char_p(b'/x'), 0o102, 0o600, 0))
attempt('mlockall', lambda: call(libc.mlockall, 3))
def lock():
    import mmap
    memory = mmap.mmap(-1, 1 << 26)
    call(libc.mlock, ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), 1 << 26)
attempt('large mlock', lock)
libc.mmap.restype = ctypes.c_long
attempt('huge page', lambda: call(libc.mmap, 0, 2 << 20, 3, 0x40022, -1, 0))
attempt('huge file', lambda: os.memfd_create('x', 4))
"""
        ),
        look=_locked,
    ),
    Program(
        "children_that_come_back",
        # A hundred processes that take memory and are started again whenever one is killed.
        "import os\n"
        "def child():\n"
        "    x = []\n"
        "    while True: x.append(b'x' * (1 << 20))\n"
        "alive = 0\n"
        "while True:\n"
        "    while alive < 100:\n"
        "        try: pid = os.fork()\n"
        "        except OSError: break\n"
        "        if pid == 0: child()\n"
        "        alive += 1\n"
        "    os.wait()\n"
        "    alive -= 1",
        ("out_of_memory", "timeout"),
        on_runsc=("out_of_memory", "timeout", "sandbox_crash"),
        limits={"timeout_s": 3, "memory_mb": 64},
        fast=True,
    ),
    Program(
        "kernel_memory",
        # Pipes and sockets full of bytes are memory of the kernel, on this job's account.
        "import os, socket\n"
        "kept = []\n"
        "def children():\n"
        "    while True:\n"
        "        try:\n"
        "            a, b = socket.socketpair()\n"
        "            a.setblocking(False)\n"
        "            kept.append((a, b))\n"
        "            while True: a.send(bytes(1 << 16))\n"
        "        except BlockingIOError: continue\n"
        "        except OSError: return\n"
        "for _ in range(64):\n"
        "    if os.fork() == 0:\n"
        "        children()\n"
        "        while True: pass\n"
        "children()\n"
        "while True: pass",
        ("timeout", "out_of_memory"),
        on_runsc=("timeout", "out_of_memory", "sandbox_crash"),
        limits={"timeout_s": 3, "memory_mb": 64},
    ),
]
