"""A used cell is as good as new for its caller's next job, or it is destroyed."""

import docker
import pytest

from tests.integration.sandboxes import program, started_cell

#: Leaves something in every place that a program can write to or change.
LEAVE = """
import os, sys, builtins, json, gc, resource, socket, threading, time
open('/work/marker', 'w').write('marker')
os.makedirs('/work/deep/' + '/'.join('d' * 20))
open('/work/.hidden', 'w').write('marker')
os.symlink('/etc/passwd', '/work/link')
os.mkfifo('/work/fifo')
locked = '/work/locked/inner'
os.makedirs(locked); open(locked + '/x', 'w').write('marker'); os.chmod(locked, 0); os.chmod('/work/locked', 0)
for folder in ('/tmp', '/dev/shm'):
    open(folder + '/marker', 'w').write('marker')
    os.makedirs(folder + '/dir/dir')
s = socket.socket(socket.AF_UNIX); s.bind('/tmp/socket')
try: os.setxattr('/work', 'user.marker', b'marker')
except OSError: pass
os.chmod('/work', 0o500)
os.environ['MARKER'] = 'marker'
os.umask(0)
builtins.marker = json.marker = sys.marker = 'marker'
sys.path.append('marker'); sys.setrecursionlimit(77 * 10)
gc.disable()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(600)
    os._exit(0)
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
import ctypes, signal, fcntl
libc = ctypes.CDLL(None, use_errno=True)
for name in (resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_STACK):
    try: resource.setrlimit(name, (1 << 30, 1 << 30))
    except (OSError, ValueError): pass
for n in range(1, 32):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
signal.setitimer(signal.ITIMER_REAL, 1000)
try: open('/proc/self/oom_score_adj', 'w').write('999')
except OSError: pass
os.nice(5)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
libc.prctl(36, 1, 0, 0, 0); libc.personality(0x0040000)
libc.syscall(248, b'user', b'marker', b'marker', 6, -3)  # add_key
libc.shmget(77, 4096, 0o1666); libc.semget(77, 1, 0o1666); libc.msgget(77, 0o1666)
held = open('/tmp/locked', 'w'); fcntl.flock(held, fcntl.LOCK_EX)
memory = libc.memfd_create(b'marker', 0)
big = bytearray(200 << 20)
open('/dev/shm/big', 'wb').write(bytes(8 << 20))
sys.setswitchinterval(1); sys.meta_path.append(None); gc.set_threshold(1, 1, 1); sys.excepthook = print
import warnings; warnings.simplefilter('ignore'); os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()
sys.meta_path.pop()
import random; random.seed(1)
"""

#: Looks for all of it, and for anything else that is not as in a new cell.
LOOK = """
import ctypes, os, sys, builtins, gc, json, resource, signal, threading, time
found = []
libc = ctypes.CDLL(None, use_errno=True)
def text(path):
    try: return open(path).read().strip()
    except OSError as e: return e.strerror
# What a process is started with.
for name in sorted(n for n in dir(resource) if n.startswith('RLIMIT_')):
    found.append(f'{name} {resource.getrlimit(getattr(resource, name))}')
for name in ('oom_score_adj', 'coredump_filter', 'timerslack_ns', 'personality', 'loginuid', 'attr/current'):
    found.append(f'{name} {text("/proc/self/" + name)}')
status = dict(l.split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)
for name in ('Umask', 'SigBlk', 'SigIgn', 'SigCgt', 'SigPnd', 'ShdPnd', 'Groups', 'Seccomp', 'NoNewPrivs',
             'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'Cpus_allowed', 'Mems_allowed', 'Threads',
             'FDSize'):
    found.append(f'{name} {status.get(name, "").strip()}')
found.append(f'nice {os.nice(0)} {os.sched_getscheduler(0)} {os.sched_getaffinity(0)}')
# Dumpable, keepcaps, securebits, child subreaper.
found.append(f'prctl {[libc.prctl(n, 0, 0, 0, 0) for n in (3, 7, 27, 37)]}')
found.append(f'session {os.getsid(0) == os.getpid()} {os.getpgid(0) == os.getpid()} {signal.getitimer(0)}')
found.append(f'descriptors {sorted(map(int, os.listdir("/proc/self/fd")))[:3]}')
# What is around it.
found += sorted(' '.join(l.split()[3:6] + l.split()[-3:]) for l in open('/proc/self/mountinfo')
                if l.split()[4] in ('/', '/work', '/tmp', '/dev/shm', '/dev/mqueue', '/proc', '/sys'))
found.append(f'keys {[l.split()[-1] for l in text("/proc/keys").splitlines()]}')
found.append(f'host {text("/proc/sys/kernel/hostname")}')
for place in ('/work', '/tmp', '/dev/shm'):
    room = os.statvfs(place)
    found.append(f'{place} full {(room.f_blocks - room.f_bfree) // 64} {(room.f_files - room.f_ffree) // 8}')
work = os.stat('/work')
found.append(f'{work.st_uid == os.getuid()} {work.st_nlink} {sorted(os.listdir("/work"))}')
found.append(f'limit {text("/sys/fs/cgroup/memory/memory.limit_in_bytes")} {text("/sys/fs/cgroup/memory.max")}')
# Memory that an earlier job held is given back: to a few MB, which is what an allocator rounds to.
held = text('/sys/fs/cgroup/memory/memory.usage_in_bytes') + text('/sys/fs/cgroup/memory.current')
held = ''.join(c for c in held if c.isdigit())
found.append(f'held {int(held or 0) >> 26}')
found.append(f'interpreter {sys.flags} {sys.getswitchinterval()} {threading.stack_size()} {len(sys.meta_path)}')
found.append(f'hooks {sys.gettrace()} {sys.getprofile()} {sys.excepthook is sys.__excepthook__}')
found.append(f'collector {gc.get_threshold()} time zone {time.tzname} bytecode {sys.dont_write_bytecode}')
found.append(f'warnings {[str(f) for f in __import__("warnings").filters]}')
for top in ('/work', '/tmp', '/dev/shm', '/dev/mqueue', '/var/tmp', '/run', '/run/lock', '/var/lock'):
    for folder, folders, files in os.walk(top):
        paths = [os.path.join(folder, n) for n in folders + files]
        found += [path for path in paths if path != '/work/main.py']
found = [f for f in found if f not in ('/run/lock', '/run/systemd', '/run/systemd/container')]
found += ['xattr ' + a for a in os.listxattr('/work')]
found += [oct(os.stat('/work').st_mode)]
found += ['module ' + m.__name__ for m in (builtins, json, sys) if hasattr(m, 'marker')]
found += [k for k, v in os.environ.items() if 'marker' in (k + v).lower()]
found += [p for p in sys.path if p == 'marker']
found += [f'umask {os.umask(0o22):o}', f'recursion {sys.getrecursionlimit()}', f'gc {gc.isenabled()}']
found += [f'files {resource.getrlimit(resource.RLIMIT_NOFILE)}']
mine = os.getuid()
found += ['process ' + p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()
          and os.stat('/proc/' + p).st_uid == mine]
for kind in ('shm', 'sem', 'msg'):
    found += [kind] * (len(open('/proc/sysvipc/' + kind).readlines()) - 1)
found += [l.split()[-1] for l in open('/proc/net/unix').readlines()[1:] if '/tmp' in l or '@' in l]
print('\\n'.join(found))
"""


def test_nothing_is_left_for_the_next_job(engine: docker.DockerClient, image: str) -> None:
    with started_cell() as cell:
        fresh = cell.run(program(LOOK), reset=True)
        assert cell.wait_clean() is None
        left = cell.run(program(LEAVE), reset=True)
        assert (left.status, left.stderr) == (0, b"")
        assert cell.wait_clean() is None
        used = cell.run(program(LOOK), reset=True)
    assert fresh.status == used.status == 0, (fresh.stderr, used.stderr)
    before, after = fresh.stdout.decode().splitlines(), used.stdout.decode().splitlines()
    assert [line for line in after if line not in before] == []
    assert len(after) == len(before)
    assert b"marker" not in used.stdout


def test_the_looking_finds_what_is_left(engine: docker.DockerClient, image: str) -> None:
    """Without the reset the same look does see it: the test above can fail."""
    with started_cell() as cell:
        ending = cell.run(program(LEAVE + "\nimport gc\n" + LOOK))
    for trace in (b"/work/marker", b"/tmp/marker", b"/dev/shm/marker", b"module json", b"MARKER", b"process "):
        assert trace in ending.stdout, trace


@pytest.mark.parametrize(
    "code",
    [
        # Deeper than what a walk can follow.
        "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')",
        # Files of which some cannot be named in UTF-8.
        "open(b'/work/\\xff\\xfe', 'w').close()\nopen(b'/tmp/new\\nline', 'w').close()",
    ],
    ids=["deep", "names"],
)
def test_strange_leftovers_are_wiped_or_told(engine: docker.DockerClient, image: str, code: str) -> None:
    with started_cell() as cell:
        cell.run(program(code), reset=True)
        if cell.wait_clean() is not None:
            return  # told: the pool destroys such a cell
        assert cell.run(program("import os\nprint(os.listdir('/work'), os.listdir('/tmp'))")).stdout == (
            b"['main.py'] []\n"
        )


def test_random_numbers_do_not_repeat(engine: docker.DockerClient, image: str) -> None:
    """Jobs forked from one helper must not share a generator's state."""
    code = "import random, numpy, uuid\nprint(random.random(), numpy.random.rand(), uuid.uuid4())"
    with started_cell() as cell:
        cell.preload()
        while cell.preloading:
            assert cell.alive()
        seen = set()
        for _ in range(5):
            ending = cell.run(program(code), reset=True)
            assert cell.wait_clean() is None
            assert ending.level == 2
            seen.update(ending.stdout.split())
    assert len(seen) == 15


def test_preloaded_packages_work(engine: docker.DockerClient, image: str) -> None:
    code = """
import numpy as np, pandas as pd, matplotlib.pyplot as plt, seaborn as sns
from sklearn.linear_model import LinearRegression
from scipy import stats
x = np.arange(10.0); y = 2 * x + 1
print(round(LinearRegression().fit(x[:, None], y).coef_[0], 6), round(stats.linregress(x, y).slope, 6))
plt.plot(x, y); plt.savefig('figure.png'); sns.set_theme()
print(open('figure.png', 'rb').read(4))
print(pd.DataFrame({'k': [1, 1, 2], 'v': [1, 2, 3]}).groupby('k').v.sum().to_dict())
"""
    with started_cell() as cell:
        cold = cell.run(program(code, limits={"timeout_s": 100}), reset=True)
        assert cell.wait_clean() is None
        cell.preload()
        while cell.preloading:
            assert cell.alive()
        assert cell.preloaded
        warm = cell.run(program(code, limits={"timeout_s": 100}), reset=True)
        assert cell.wait_clean() is None
    assert cold.stderr == warm.stderr == b""
    assert cold.stdout == warm.stdout == b"2.0 2.0\nb'\\x89PNG'\n{1: 3, 2: 3}\n"
    assert (cold.level, warm.level) == (0, 3)
