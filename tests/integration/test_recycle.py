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
import random; random.seed(1)
"""

#: Looks for all of it, and for anything else that is not as in a new cell.
LOOK = """
import os, sys, builtins, gc, json, resource
found = []
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
    assert used.stdout == fresh.stdout
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
        cold = cell.run(program(code), reset=True)
        assert cell.wait_clean() is None
        cell.preload()
        while cell.preloading:
            assert cell.alive()
        assert cell.preloaded
        warm = cell.run(program(code), reset=True)
        assert cell.wait_clean() is None
    assert cold.stderr == warm.stderr == b""
    assert cold.stdout == warm.stdout == b"2.0 2.0\nb'\\x89PNG'\n{1: 3, 2: 3}\n"
    assert (cold.level, warm.level) == (0, 3)
