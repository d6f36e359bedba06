"""Against the program that started it: its stream, its memory, its environment."""

from uuid import uuid4

from tests.hostile.entries import Program, Result, Story, probe, refused
from tests.hostile.stage import Stage

FORGED = (
    "import json, os, struct\n"
    "end = json.dumps({'status': 0, 'wall_s': 0, 'cpu_s': 0, 'oom_kills': 0, 'stdout_bytes': 0, 'stderr_bytes': 0,"
    " 'output_limit': False, 'level': 0}).encode()\n"
    "frame = struct.pack('>I', len(end) + 1) + b'X' + end\n"
    "clean = struct.pack('>I', 15) + b'C{\"clean\":true}'\n"
    "for fd in (1, 2): os.write(fd, (frame + clean) * 3)\n"
    "raise SystemExit(3)"
)


def _forgery_is_output(result: Result) -> None:
    assert result.job["exit_code"] == 3
    assert result.out == result.err
    assert result.out.count(b'"status"') == 3


def _own_descriptors(result: Result) -> None:
    found = result.found
    assert found.pop("own") == [0, 1, 2], found
    assert found, "no other process was seen"
    assert set(found.values()) <= {"EACCES", "EPERM", "ENOENT", "ENXIO"}, found


def _own_descriptors_on_runsc(result: Result) -> None:
    # gVisor lists the descriptors of others, and opens again what they have open of the null device.
    found = {what: got for what, got in result.found.items() if not what.startswith("list ")}
    assert found.pop("own") == [0, 1, 2], found
    assert found, "no other process was seen"
    assert set(found.values()) <= {"EACCES", "EPERM", "ENOENT", "ENXIO", "the null device"}, found


def _all_refused_on_runsc(result: Result) -> None:
    # gVisor shows these of other users' processes; the environment and the map of the runner hold nothing.
    shown = ("maps ", "environ ", "auxv ")
    found = {what: got for what, got in result.found.items() if not what.startswith(shown)}
    assert found, "nothing was tried"
    assert set(found.values()) <= {"EPERM", "EACCES", "ENOSYS", "ESRCH", "ENOENT"}, found


def _all_refused(result: Result) -> None:
    refused("EPERM", "EACCES", "ENOSYS", "ESRCH", "ENOENT")(result)


def _nothing_of_ours(result: Result) -> None:
    environment = result.found["environment"]
    assert set(environment) <= {
        "PATH", "LANG", "LC_CTYPE", "HOME", "USER", "LOGNAME", "PWD", "OLDPWD", "SHLVL", "_", "PYTHONDONTWRITEBYTECODE",
        "MPLBACKEND", "MPLCONFIGDIR", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
    }, environment  # fmt: skip
    everything = result.out.decode().lower()
    assert "RETORT_" not in result.out.decode()
    for word in ("postgres", "redis", "valkey", "api_key", "docker.sock", "password"):
        assert word not in everything, word
    # gVisor shows those of the runner and its helper; what is in them was just looked at.
    assert result.found["others' environments"] <= (2 if result.job["runtime"] == "runsc" else 0)


def _alone(result: Result) -> None:
    found = result.found
    assert found["files"] == []
    assert not {"host", "rootfs", "workspace"} & set(found["root"]), found
    assert found["processes"] <= 10, found
    assert found["host name"] == "sandbox"


SESSION_LEAVES = "import os, builtins\nbuiltins.secret = 's3cret'\nos.environ['S'] = 's3cret'\nopen('/tmp/s', 'w').write('s3cret')"
SESSION_LOOKS = (
    "import os, builtins\n"
    "print(hasattr(builtins, 'secret'), os.environ.get('S'), [n for n in os.listdir('/tmp') if n != '.matplotlib'], os.listdir('/dev/shm'))"
)


def session_is_one_domain(stage: Stage) -> None:
    """A used sandbox goes to the same caller alone, and holds nothing of the run before."""
    clean = "False None [] []\n"
    first = stage.run(SESSION_LEAVES, reuse="caller")
    assert first.job["verdict"] == "ok", first.err
    # Somebody new each time: who was here a moment ago has a used sandbox of their own.
    stranger = stage.client(stage.new_key(f"stranger{uuid4().hex}"))
    other = stage.run(SESSION_LOOKS, stranger, reuse="caller")
    assert (other.usage["sandbox_reused"], other.job["stdout"]) == (False, clean)
    for _ in range(20):  # a busy pool may have needed the room
        own = stage.run(SESSION_LOOKS, reuse="caller")
        assert own.job["stdout"] == clean
        if own.usage["sandbox_reused"]:
            break
        stage.run(SESSION_LEAVES, reuse="caller")
    else:
        raise AssertionError("no sandbox was ever used again")
    single = stage.run(SESSION_LOOKS)
    assert single.usage["sandbox_reused"] is False


ENTRIES = [
    Program("forged_frames", FORGED, ("error",), look=_forgery_is_output, fast=True),
    Program(
        "descriptors_of_others",
        probe(
            """
def opened(path):
    fd = os.open(path, os.O_WRONLY)
    return 'the null device' if os.path.samestat(os.fstat(fd), os.stat('/dev/null')) else fd
found['own'] = sorted(int(n) for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}'))
for pid in os.listdir('/proc'):
    if pid.isdigit() and int(pid) != os.getpid():
        attempt(f'list {pid}', lambda: os.listdir(f'/proc/{pid}/fd'))
        for fd in (0, 1, 2, 3):
            attempt(f'write {pid} {fd}', lambda: opened(f'/proc/{pid}/fd/{fd}'))
"""
        ),
        look=_own_descriptors,
        look_on_runsc=_own_descriptors_on_runsc,
    ),
    Program(
        "traces_the_runner",
        probe(
            """
class Vector(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
place = ctypes.create_string_buffer(64)
near, far = Vector(ctypes.addressof(place), 64), Vector(0x400000, 64)
for pid in [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]:
    attempt(f'attach {pid}', lambda: call(libc.ptrace, 16, pid, 0, 0))
    attempt(f'seize {pid}', lambda: call(libc.ptrace, 0x4206, pid, 0, 0))
    for way in (libc.process_vm_readv, libc.process_vm_writev):
        attempt(f'{way.__name__} {pid}', lambda: call(way, pid, ctypes.byref(near), 1, ctypes.byref(far), 1, 0))
    attempt(f'descriptor {pid}', lambda: syscall(438, 438, os.pidfd_open(pid), 0, 0))
    for file in ('mem', 'maps', 'environ', 'auxv', 'syscall', 'stack', 'io', 'pagemap', 'root/etc/passwd', 'cwd/x'):
        attempt(f'{file} {pid}', lambda: open(f'/proc/{pid}/{file}', 'rb').read(1))
"""
        ),
        look=_all_refused,
        look_on_runsc=_all_refused_on_runsc,
        fast=True,
    ),
    Program(
        "rewrites_the_runner",
        # Its own copy of what the runner is made of may be changed; the runner does not notice.
        "import gc, sys\n"
        "for thing in gc.get_objects():\n"
        "    if callable(thing) and 'retort' in str(getattr(thing, '__module__', '')) and hasattr(thing, '__code__'):\n"
        "        try: thing.__code__ = (lambda *a, **k: None).__code__\n"
        "        except (ValueError, TypeError): pass\n"
        "print('done')\nraise SystemExit(4)",
        ("error",),
    ),
    Program(
        "environments_and_commands",
        probe(
            """
found['environment'] = dict(os.environ)
count = 0
for pid in os.listdir('/proc'):
    if not pid.isdigit(): continue
    for name in ('cmdline', 'comm', 'status', 'mounts', 'cgroup'):
        attempt(f'{name} {pid}', lambda: open(f'/proc/{pid}/{name}').read())
    if int(pid) != os.getpid():
        try: found[f'environment {pid}'] = open(f'/proc/{pid}/environ').read(); count += 1
        except OSError: pass
found["others' environments"] = count
for name in ('/proc/cmdline', '/proc/mounts', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/proc/self/mountinfo'):
    attempt(name, lambda: open(name).read())
"""
        ),
        look=_nothing_of_ours,
        fast=True,
    ),
    Program(
        "looks_for_the_host",
        probe(
            """
import glob
found['files'] = [p for pattern in ('/canary', '/*/canary', '/tmp/retort*', '/var/run/docker*', '/host*', '/mnt/*', '/media/*')
                  for p in glob.glob(pattern)]
found['root'] = sorted(os.listdir('/'))
found['processes'] = sum(p.isdigit() for p in os.listdir('/proc'))
found['host name'] = socket.gethostname()
"""
        ),
        look=_alone,
    ),
    Story("session_is_one_domain", session_is_one_domain, keeps=2),
]
