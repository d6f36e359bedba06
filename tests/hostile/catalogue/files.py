"""The work folder full, deep, sparse, linked and badly named; and what a program may not write at all."""

from tests.hostile.entries import Program, Result, Story, probe, refused
from tests.hostile.stage import Stage

FULL = {"ENOSPC", "EDQUOT"}


def _inodes_bounded(result: Result) -> None:
    assert result.found["then"] in FULL, result.found
    assert result.found["files"] <= 20_000


def _sparse(result: Result) -> None:
    assert result.found == {"truncate": "EFBIG", "seek and write": "EFBIG", "allocate": "EFBIG"}, result.found


def _nothing_outside(result: Result) -> None:
    assert result.found["devices"] == ["EPERM"] * 3, result.found
    assert result.found["made"] == ["fifo", "socket"], result.found


def _nothing_opened(result: Result) -> None:
    memory, null, block = result.found["devices"]
    assert {memory, block} <= {"EPERM", "made"}, result.found
    assert null in {"EPERM", "made", "opened"}, result.found  # gVisor's own null device
    assert result.found["made"] == ["fifo", "socket"], result.found


def _read_only(result: Result) -> None:
    allowed = {"EROFS", "EACCES", "EPERM", "ENOENT", "EBUSY", "EXDEV"}
    assert len(result.found) > 20
    assert set(result.found.values()) <= allowed, {k: v for k, v in result.found.items() if v not in allowed}


#: Where a program could leave something for the next one.
PLACES = (
    "/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", "/dev/mqueue", "/work", "/var/lock", "/home", "/root", "/mnt",
    "/media", "/opt", "/srv", "/usr/local", "/var/cache", "/var/lib", "/var/log", "/var/spool", "/etc", "/proc", "/sys",
)  # fmt: skip

LEAVE = f"""
import os
left = []
for place in {PLACES!r}:
    try:
        with open(place + '/marker-of-another', 'w') as file: file.write('marker')
        left.append(place)
    except OSError: pass
print(left)
"""

LOOK = f"""
import os
print([place for place in {PLACES!r} if os.path.exists(place + '/marker-of-another')])
"""


def leftovers(stage: Stage) -> None:
    """What one job leaves in every folder it may write to, the next one does not see."""
    left = stage.run(LEAVE)
    assert left.job["verdict"] == "ok", left.err
    assert "/tmp" in left.job["stdout"]
    assert "/work" in left.job["stdout"]
    assert {stage.run(LOOK).job["stdout"] for _ in range(3)} == {"[]\n"}


def predictable_paths(stage: Stage) -> None:
    """Two jobs at the same moment under the same names: neither sees the other."""
    meet = """
import os, socket, sys, time
me, other = sys.argv[1:]
bound = socket.socket(socket.AF_UNIX); bound.bind('\\0' + me)
for place in ('/tmp', '/work', '/dev/shm'):
    open(f'{place}/{me}', 'w').close()
until = time.monotonic() + 3
seen = set()
while time.monotonic() < until:
    seen |= {p for p in ('/tmp', '/work', '/dev/shm') if os.path.exists(f'{p}/{other}')}
    try:
        socket.socket(socket.AF_UNIX).connect('\\0' + other); seen.add('abstract socket')
    except OSError: pass
    seen |= {p for p in os.listdir('/proc') if p.isdigit() and other.encode() in open(f'/proc/{p}/cmdline', 'rb').read()}
    time.sleep(0.05)
print(sorted(seen))
"""
    pairs = [("one", "two"), ("two", "one")]
    jobs = [
        stage.submit_soon(client, {"code": meet, "args": list(names)})
        for client, names in zip((stage.mallory, stage.alice), pairs, strict=True)
    ]
    for job in jobs:
        result = job.result()
        # A program's name and arguments are its own.
        assert (result.job["verdict"], result.job["stdout"]) == ("ok", "[]\n"), (result.out, result.err)


ENTRIES = [
    Program(
        "million_files",
        probe(
            """
count = 0
def make():
    global count
    for number in range(1_000_000):
        os.close(os.open(f'/work/{number}', os.O_CREAT | os.O_WRONLY))
        count += 1
attempt('then', make)
found['files'] = count
"""
        ),
        ("ok", "disk_limit"),
        on_runsc=("ok", "out_of_memory", "timeout", "disk_limit"),
        limits={"timeout_s": 30},
        look=_inodes_bounded,
    ),
    Program(
        "deep_directories",
        "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nopen('bottom', 'w').close()\nprint('deep')",
        stdout="deep\n",
    ),
    Program(
        "sparse_giants",
        probe(
            """
fd = os.open('/work/giant', os.O_CREAT | os.O_RDWR)
attempt('truncate', lambda: os.ftruncate(fd, 1 << 50))
attempt('seek and write', lambda: os.pwrite(fd, b'x', 1 << 50))
attempt('allocate', lambda: os.posix_fallocate(fd, 0, 1 << 50))
os.ftruncate(fd, 200 << 20)
"""
        ),
        look=_sparse,
    ),
    Program(
        "killed_for_a_giant",
        # As a shell or a C program would have it: the signal is not ignored.
        "import os, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "os.truncate(os.open('/work/giant', os.O_CREAT | os.O_RDWR), 1 << 50)",
        ("signalled", "disk_limit"),
    ),
    Program(
        "links_to_secrets",
        "import os\n"
        "for number, target in enumerate(('/etc/passwd', '/proc/1/environ', '../../..', '/', '/proc/self/fd/0')):\n"
        "    os.symlink(target, f'/work/link{number}')\n"
        "os.symlink('loop', '/work/loop')\nprint('linked')",
        stdout="linked\n",
    ),
    Program(
        "special_files",
        probe(
            """
import stat
def device(kind, number):
    try: os.mknod(f'/work/device{number}', kind | 0o666, os.makedev(1, number))
    except OSError as e: return errno.errorcode[e.errno]
    try: os.open(f'/work/device{number}', os.O_RDWR)
    except OSError: return 'made'
    finally: os.unlink(f'/work/device{number}')
    return 'opened'
found['devices'] = [device(stat.S_IFCHR, 1), device(stat.S_IFCHR, 3), device(stat.S_IFBLK, 0)]
os.mkfifo('/work/fifo')
socket.socket(socket.AF_UNIX).bind('/work/socket')
found['made'] = sorted(os.listdir('/work'))
found['made'].remove('main.py')
"""
        ),
        look=_nothing_outside,
        look_on_runsc=_nothing_opened,
    ),
    Program(
        "strange_names",
        "import os\n"
        "names = [b'\\xc3', b'new\\nline', '\\u202egpj.exe'.encode(), b'CON', b'-rf', b' ', b'a' * 255, b'..\\\\x', b'<b>', b'%00', b'\"']\n"
        "for name in names: open(b'/work/' + name, 'w').close()\n"
        "for name in (b'b' * 256, b'a/../../../x'):\n"
        "    try: open(b'/work/' + name, 'w')\n"
        "    except OSError as e: print(e.errno)\n"
        "print(len(os.listdir('/work')))",
        stdout="36\n2\n12\n",
    ),
    Program(
        "zip_bomb",
        "import io, zipfile\n"
        "packed = io.BytesIO()\n"
        "with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as z:\n"
        "    for i in range(64): z.writestr(f'{i}', bytes(16 << 20))\n"
        "print(len(packed.getvalue()) < 4 << 20, flush=True)\n"
        "zipfile.ZipFile(packed).extractall('/work')",
        ("error", "disk_limit"),
        limits={"timeout_s": 60},
    ),
    Story("leftovers_of_another_job", leftovers, fast=True),
    Story("predictable_paths", predictable_paths),
    Program(
        "read_only_everywhere",
        probe(
            """
import shutil
for place in ('/', '/bin', '/boot', '/dev', '/etc', '/home', '/lib', '/media', '/mnt', '/opt', '/opt/retort', '/proc',
              '/root', '/run', '/sbin', '/srv', '/sys', '/usr', '/usr/bin', '/usr/local', '/var', '/var/tmp', '/var/log',
              '/sys/fs/cgroup', '/proc/sys', '/dev/pts'):
    attempt('new in ' + place, lambda: open(place + '/x', 'w'))
for file in ('/etc/passwd', '/etc/hosts', '/etc/resolv.conf', '/etc/hostname', '/opt/retort/__main__.py', '/bin/sh'):
    attempt('write ' + file, lambda: open(file, 'a'))
    attempt('remove ' + file, lambda: os.unlink(file))
    attempt('mode of ' + file, lambda: os.chmod(file, 0o777))
attempt('move /tmp', lambda: os.rename('/tmp', '/work/tmp'))
attempt('remove /work', lambda: os.rmdir('/work'))
"""
        ),
        look=_read_only,
        fast=True,
    ),
    Program(
        "reads_the_shadow",
        probe(
            "for f in ('/etc/shadow', '/etc/gshadow', '/proc/kcore', '/proc/kmsg'): attempt(f, lambda: open(f).read())"
        ),
        look=refused("EACCES", "EPERM", "ENOENT"),
    ),
]
