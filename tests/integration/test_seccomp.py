"""The seccomp profile against the real kernel: what it refuses, and that ordinary programs do not notice."""

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import docker
import pytest
from docker.errors import DockerException

import worker.sandbox
from worker.sandbox import images

PROFILE = (Path(worker.sandbox.__file__).parent / "seccomp.json").read_text(encoding="utf-8")
EPERM, ENOMEM, ENOSYS, EAFNOSUPPORT = 1, 12, 38, 97

# Not `ALL`: where the engine itself lacks one of them, that fails.
POWERS = """
    DAC_READ_SEARCH IPC_LOCK NET_ADMIN NET_RAW SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_TIME SYS_TTY_CONFIG
""".split()  # noqa: SIM905

# Call: its number on x86-64 and on aarch64 (None where it does not exist).
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_mempolicy": (239, 236),
    "init_module": (175, 105),
    "io_setup": (206, 0),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mlock": (149, 228),
    "mlock2": (325, 284),
    "mlockall": (151, 230),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "remap_file_pages": (216, 234),
    "request_key": (249, 218),
    "semget": (64, 190),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}

# Each argument is -1: a call let through fails, harmlessly, and (with the capabilities) not by EPERM.
PROBE = """
import ctypes, json, os, platform, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
arm = platform.machine() == "aarch64"
def call(number, *arguments):
    arguments = [ctypes.c_long(value) for value in (*arguments, *[-1] * 6)[:6]]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    return 0 if result != -1 else ctypes.get_errno()
def clone(flag):
    ctypes.set_errno(0)
    child = libc.syscall(ctypes.c_long(220 if arm else 56), *map(ctypes.c_long, (flag | 17, 0, 0, 0, 0)))
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    return 0 if child > 0 else ctypes.get_errno()
def family(number, kind):
    try:
        socket.socket(number, kind).close()
    except OSError as error:
        return error.errno
    return 0
out = {}
for name, numbers in json.loads(sys.argv[1]).items():
    if numbers[arm] is not None:
        out[name] = call(numbers[arm])
for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0):
    out[f"clone {bit:#x}"] = clone(bit)
out["clone3"] = call(435)
out["sync"] = call(81 if arm else 162)
out["mmap huge"] = call(222 if arm else 9, 0, 2 << 20, 3, 0x40022, -1, 0)
out["memfd_create huge"] = call(279 if arm else 319, id(b"x") + 32, 4)
for number in range(46):
    out[f"socket {number}"] = family(number, socket.SOCK_STREAM)
out["socket high bits"] = call(198 if arm else 41, (1 << 32) | 38, 5, 0)
for request in (0x5412, 0x541C, (1 << 32) | 0x5412):
    out[f"ioctl {request:#x}"] = call(29 if arm else 16, 0, request)
print(json.dumps(out))
"""

BASICS = {
    "threads": """
        import threading
        done = []
        threads = [threading.Thread(target=done.append, args=(n,)) for n in range(20)]
        [t.start() for t in threads]; [t.join() for t in threads]
        assert len(done) == 20""",
    "subprocess": """
        import subprocess
        assert subprocess.run(["bash", "-c", "echo $((6*7)) | cat"], capture_output=True).stdout == b"42\\n"
        assert subprocess.run("exit 3", shell=True, start_new_session=True).returncode == 3""",
    "multiprocessing fork": """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]""",
    "multiprocessing spawn": """
        import multiprocessing
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                assert pool.map(abs, [-1, -2]) == [1, 2]""",
    "shared memory": """
        from multiprocessing.shared_memory import SharedMemory
        memory = SharedMemory(create=True, size=4096); memory.buf[0] = 1; memory.close(); memory.unlink()""",
    "process pool": """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            assert list(pool.map(abs, [-3])) == [3]""",
    "loopback": """
        import socket, threading
        for family, address in ((socket.AF_INET, "127.0.0.1"),):
            server = socket.create_server((address, 0), family=family)
            client = socket.create_connection(server.getsockname()[:2])
            peer, _ = server.accept(); client.sendall(b"x"); assert peer.recv(1) == b"x"
        a, b = socket.socketpair(); a.send(b"y"); assert b.recv(1) == b"y"
        socket.getaddrinfo("127.0.0.1", 80)""",
    "memfd and mmap": """
        import mmap, os
        f = os.memfd_create("x"); os.ftruncate(f, 8192)
        m = mmap.mmap(f, 8192); m[0] = 1; m.flush(); m.madvise(mmap.MADV_DONTNEED); m.resize(16384)
        mmap.mmap(-1, 1 << 20).close()""",
    "asyncio": """
        import asyncio
        async def main():
            p = await asyncio.create_subprocess_exec("echo", "hi", stdout=-1)
            assert (await p.communicate())[0] == b"hi\\n"
            await asyncio.wait_for(asyncio.gather(*[asyncio.sleep(0.001)] * 1), 5)
            assert await asyncio.to_thread(abs, -1) == 1
        asyncio.run(main())""",
    "sqlite": """
        import sqlite3
        c = sqlite3.connect("/work/x.db")
        c.execute("pragma journal_mode=wal"); c.execute("create table t(a)")
        c.execute("insert into t values(1)"); c.commit()
        assert c.execute("select * from t").fetchall() == [(1,)]""",
    "files": """
        import os, shutil, tempfile
        with tempfile.TemporaryDirectory(dir="/work") as d:
            open(d + "/a", "w").write("x" * 100000); shutil.copy2(d + "/a", d + "/b")
            os.symlink("a", d + "/c"); os.link(d + "/a", d + "/e"); os.mkfifo(d + "/f"); os.utime(d + "/a")
            os.chmod(d + "/a", 0o600); os.truncate(d + "/a", 5); os.rename(d + "/a", d + "/g")
            os.sync(); os.statvfs(d); os.listdir(d)""",
    "signals and timers": """
        import select, signal, time
        hit = []
        signal.signal(signal.SIGALRM, lambda *a: hit.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.pause(); assert hit
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}); signal.raise_signal(signal.SIGUSR1)
        assert signal.sigtimedwait({signal.SIGUSR1}, 1); time.sleep(0.001); select.epoll().close()""",
    "terminal": """
        import os, pty, termios, fcntl
        a, b = pty.openpty(); termios.tcgetattr(b); fcntl.ioctl(b, termios.TIOCGWINSZ, b"\\0" * 8)
        fcntl.ioctl(b, termios.FIONREAD, b"\\0" * 4); assert os.isatty(b)""",
    "identity": """
        import getpass, os, resource
        os.getgroups(); os.sched_getaffinity(0); os.nice(1); resource.getrlimit(resource.RLIMIT_NOFILE)
        os.getrandom(8); os.uname(); getpass.getuser(); os.getloadavg(); os.pidfd_open(os.getpid())""",
    "packages": """
        import numpy as np, pandas as pd, matplotlib.pyplot as plt, sklearn.linear_model, sympy, scipy.stats
        a = np.random.default_rng(1).normal(size=(300, 300)); np.linalg.svd(a)
        pd.DataFrame(a).to_excel("/work/a.xlsx"); plt.plot(a[0]); plt.savefig("/work/a.pdf")
        sklearn.linear_model.LinearRegression(n_jobs=2).fit(a, a[:, 0]); sympy.factor("x**2-1")""",
}

RUNNER = """
import ctypes, os, signal
pid = os.fork()
if pid == 0:
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
    os.setgroups([]); os.setresgid(1234567, 1234567, 1234567); os.setresuid(1234567, 1234567, 1234567)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
    signal.pause()
descriptor = os.pidfd_open(pid)
signal.pidfd_send_signal(descriptor, signal.SIGKILL)
assert os.waitid(os.P_PIDFD, descriptor, os.WEXITED).si_status == 9
"""

# int 0x80: the 32-bit system calls; and the x32 ones, which have a bit of their own.
OTHER_TABLES = {
    "i386": """
        import ctypes, mmap
        page = mmap.mmap(-1, 4096, prot=7); page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")
        print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())""",
    "x32": """
        import ctypes
        print(ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39)))""",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.fail(f"these tests need a Docker engine and none answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient) -> str:
    return images.build("python", client=engine).tag


def run(engine: docker.DockerClient, image: str, code: str, *arguments: str, **settings: Any) -> str:
    """Run Python code in a hardened container and return what it printed; fail if the code failed."""
    fixed: dict[str, Any] = {
        "entrypoint": ["python3", "-c"],
        "command": [code, *arguments],
        "network_mode": "none",
        "read_only": True,
        "user": "1234567:1234567",
        "cap_drop": ["ALL"],
        "security_opt": [f"seccomp={PROFILE}", "no-new-privileges"],
        "tmpfs": {"/tmp": "", "/work": "uid=1234567,gid=1234567"},
        "mem_limit": "1g",
        "pids_limit": 128,
    }
    container = engine.containers.create(image, **(fixed | settings))
    try:
        container.start()
        status = container.wait(timeout=120)["StatusCode"]
        errors = container.logs(stdout=False, stderr=True).decode(errors="replace")
        assert status == 0, errors
        return container.logs(stdout=True, stderr=False).decode()
    finally:
        container.remove(force=True)


@pytest.fixture(scope="module")
def as_guest(engine: docker.DockerClient, image: str) -> dict[str, int]:
    """The probes' errors as a guest sees them."""
    answer: dict[str, int] = json.loads(run(engine, image, PROBE, json.dumps(NUMBERS)))
    return answer


@pytest.fixture(scope="module")
def as_root(engine: docker.DockerClient, image: str) -> dict[str, int]:
    """The same as a root who may do it all, so that nothing but the profile can be what refuses."""
    settings: dict[str, Any] = {
        "user": "0:0", "cap_drop": [], "cap_add": POWERS, "security_opt": [f"seccomp={PROFILE}"],
    }  # fmt: skip
    answer: dict[str, int] = json.loads(run(engine, image, PROBE, json.dumps(NUMBERS), **settings))
    return answer


@pytest.mark.parametrize("name", NUMBERS)
def test_forbidden_call(name: str, as_guest: dict[str, int], as_root: dict[str, int]) -> None:
    if name not in as_guest:
        assert NUMBERS[name][1] is None  # this machine's kernel has no such call
        return
    assert (as_guest[name], as_root[name]) == (EPERM, EPERM)


def test_no_namespace_by_clone(as_guest: dict[str, int], as_root: dict[str, int]) -> None:
    for answers in (as_guest, as_root):
        refused = {name: code for name, code in answers.items() if name.startswith("clone 0x")}
        assert refused.pop("clone 0x0") == 0
        assert set(refused.values()) == {EPERM}
        assert len(refused) == 7
        assert answers["clone3"] == ENOSYS


def test_socket_families(as_guest: dict[str, int], as_root: dict[str, int]) -> None:
    for answers in (as_guest, as_root):
        codes = {int(name.split()[1]): code for name, code in answers.items() if name[7:].isdigit()}
        assert [number for number, code in codes.items() if code == 0] == [1, 2, 10]
        assert {code for number, code in codes.items() if number not in {1, 2, 10}} == {EAFNOSUPPORT}
        assert answers["socket high bits"] == EAFNOSUPPORT


def test_no_huge_pages(as_guest: dict[str, int]) -> None:
    """They would not count against the memory limit."""
    assert (as_guest["mmap huge"], as_guest["memfd_create huge"]) == (ENOMEM, ENOMEM)


def test_no_typing_into_terminals(as_root: dict[str, int]) -> None:
    codes = {name: code for name, code in as_root.items() if name.startswith("ioctl")}
    assert len(codes) == 3
    assert set(codes.values()) == {EPERM}


def test_sync_pretends(as_root: dict[str, int]) -> None:
    assert as_root["sync"] == 0


@pytest.mark.parametrize("name", OTHER_TABLES)
def test_other_system_call_tables_kill(name: str, engine: docker.DockerClient, image: str) -> None:
    code = (
        "import platform, signal, subprocess, sys\n"
        "if platform.machine() == 'x86_64':\n"
        "    done = subprocess.run([sys.executable, '-c', sys.argv[1]], capture_output=True)\n"
        "    assert done.returncode in (-signal.SIGSYS, -signal.SIGSEGV), done\n"
    )
    run(engine, image, code, dedent(OTHER_TABLES[name]))


@pytest.mark.parametrize("name", BASICS)
def test_ordinary_programs_do_not_notice(name: str, engine: docker.DockerClient, image: str) -> None:
    code = "import subprocess, sys; open('/work/main.py', 'w').write(sys.argv[1])\n"
    code += "sys.exit(subprocess.run([sys.executable, '/work/main.py']).returncode)"
    run(engine, image, code, dedent(BASICS[name]))


def test_what_the_runner_does(engine: docker.DockerClient, image: str) -> None:
    run(engine, image, RUNNER, user="0:0", cap_add=["KILL", "SETGID", "SETUID"])
