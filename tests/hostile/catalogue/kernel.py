"""The kernel's surface: calls, files and devices that a program has no use for."""

import signal

from tests.hostile.entries import Program, Result, probe, refused


def _no_setuid(result: Result) -> None:
    found = result.found
    assert found["setuid files"] == [], found
    assert found["capabilities"] == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0}, found
    assert found["no new privileges"] == "1", found
    assert found["setuid"] == found["setgid"] == found["setgroups"] == "EPERM", found
    assert min(found["ids"]) >= 1_000_000, found


def _no_door(result: Result) -> None:
    found = result.found
    assert found["doors"] == [], found
    assert found["block devices"] == [], found
    # gVisor has FUSE and network devices of its own, behind privileges that nobody has.
    own = {"fuse", "net"} if result.job["runtime"] == "runsc" else set()
    assert set(found["devices"]) - own <= {
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero", "console",
    }, found  # fmt: skip
    assert found["writable cgroup files"] == [], found
    assert found["foreign mounts"] == [], found


def _killed_or_none(result: Result) -> None:
    # gVisor knows no such tables: it lets the program live, and does not do what the number means in them.
    mercy = {0} if result.job["runtime"] == "runsc" else set()
    assert set(result.found.values()) - mercy <= {signal.SIGSYS, signal.SIGSEGV}, result.found


def _no_fuse_of_the_host(result: Result) -> None:
    found = {path: got for path, got in result.found.items() if path != "/dev/fuse"}  # gVisor's own
    assert set(found.values()) <= NOT_THERE, found


NOT_THERE = {"EACCES", "EPERM", "EROFS", "ENOENT", "ENXIO", "EISDIR"}
DENIED = refused("EPERM", "ENOSYS", "EACCES")

ENTRIES = [
    Program(
        "namespaces_and_mounts",
        probe(
            """
for name, flag in (('user', 0x10000000), ('mount', 0x20000), ('pid', 0x20000000), ('net', 0x40000000),
                   ('uts', 0x4000000), ('ipc', 0x8000000), ('cgroup', 0x2000000)):
    attempt(f'unshare {name}', lambda: call(libc.unshare, flag))
    def clone():
        child = syscall(56, 220, flag | 17, 0, 0, 0, 0)
        if child == 0: os._exit(0)
        return child
    attempt(f'clone {name}', clone)
    attempt(f'setns {name}', lambda: call(libc.setns, os.open('/proc/self/ns/' + {'mount': 'mnt'}.get(name, name), 0), 0))
attempt('clone3', lambda: syscall(435, 435, 0, 0))
text = ctypes.c_char_p
attempt('mount', lambda: call(libc.mount, text(b'none'), text(b'/tmp'), text(b'tmpfs'), 0, 0))
attempt('bind', lambda: call(libc.mount, text(b'/etc'), text(b'/tmp'), 0, 4096, 0))
attempt('remount', lambda: call(libc.mount, 0, text(b'/'), 0, 32, 0))
attempt('umount', lambda: call(libc.umount2, text(b'/proc'), 2))
attempt('pivot_root', lambda: syscall(155, 41, text(b'.'), text(b'.')))
attempt('chroot', lambda: call(libc.chroot, text(b'/tmp')))
for name, number in (('open_tree', 428), ('move_mount', 429), ('fsopen', 430), ('fsmount', 432), ('mount_setattr', 442)):
    attempt(name, lambda: syscall(number, number, -1, 0, 0))
attempt('open_by_handle', lambda: syscall(304, 265, -100, 0, 0))
attempt('name_to_handle', lambda: syscall(303, 264, -100, 0, 0, 0, 0))
"""
        ),
        look=DENIED,
        look_on_runsc=refused("EPERM", "ENOSYS", "EACCES", "ENOENT"),  # some namespaces are no files there
        fast=True,
    ),
    Program(
        "facilities",
        probe(
            """
for name, x86, arm in (('add_key', 248, 217), ('request_key', 249, 218), ('keyctl', 250, 219), ('bpf', 321, 280),
                       ('perf_event_open', 298, 241), ('userfaultfd', 323, 282), ('io_uring_setup', 425, 425),
                       ('io_uring_enter', 426, 426), ('io_uring_register', 427, 427), ('io_setup', 206, 0),
                       ('kcmp', 312, 272), ('pidfd_getfd', 438, 438), ('process_madvise', 440, 440),
                       ('fanotify_init', 300, 262), ('quotactl', 179, 60), ('lookup_dcookie', 212, 18),
                       ('personality', 135, 92), ('syslog', 103, 116), ('vmsplice', 278, 75), ('mbind', 237, 235),
                       ('move_pages', 279, 239), ('migrate_pages', 256, 238), ('swapon', 167, 224), ('acct', 163, 89)):
    attempt(name, lambda: syscall(x86, arm, -1, -1, -1, -1, -1, -1))
"""
        ),
        look=refused("EPERM", "ENOSYS"),
        fast=True,
    ),
    Program(
        "crypto_sockets",
        # Only whether the door opens.
        probe(
            """
attempt('crypto', lambda: socket.socket(38, 5, 0))
attempt('crypto, high bits', lambda: syscall(41, 198, (1 << 32) | 38, 5, 0))
attempt('hypervisor', lambda: socket.socket(40, 1, 0))
attempt('netlink', lambda: socket.socket(16, 3, 0))
attempt('packet', lambda: socket.socket(17, 3, 0))
attempt('express data path', lambda: socket.socket(44, 3, 0))
"""
        ),
        look=refused("EAFNOSUPPORT", "EPERM"),
    ),
    Program(
        "files_of_the_kernel",
        probe(
            """
for path in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sys/vm/overcommit_memory',
             '/proc/sys/kernel/hostname', '/proc/sys/fs/binfmt_misc/register', '/sys/fs/cgroup/release_agent',
             '/sys/fs/cgroup/memory/release_agent', '/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/memory/memory.limit_in_bytes',
             '/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/pids/pids.max', '/sys/fs/cgroup/pids.max', '/sys/kernel/uevent_helper',
             '/sys/kernel/mm/transparent_hugepage/enabled', '/sys/kernel/security/apparmor/.load', '/sys/power/state', '/dev/mem',
             '/dev/kmem', '/dev/port', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/fuse', '/dev/kvm', '/dev/loop-control',
             '/proc/1/oom_score_adj', '/proc/irq/0/smp_affinity', '/proc/acpi/wakeup'):
    attempt(path, lambda: os.open(path, os.O_WRONLY))
for path in ('/proc/kcore', '/dev/mem', '/dev/kmsg', '/sys/kernel/debug/tracing/trace', '/sys/firmware/efi/efivars'):
    attempt('read ' + path, lambda: os.read(os.open(path, os.O_RDONLY), 1))
"""
        ),
        look=refused(*NOT_THERE),
        look_on_runsc=_no_fuse_of_the_host,
    ),
    Program(
        "clock_name_and_power",
        probe(
            """
text = ctypes.c_char_p
attempt('clock_settime', lambda: call(libc.clock_settime, 0, ctypes.byref((ctypes.c_long * 2)(0, 0))))
attempt('settimeofday', lambda: call(libc.settimeofday, ctypes.byref((ctypes.c_long * 2)(0, 0)), 0))
attempt('clock_adjtime', lambda: syscall(305, 266, 0, -1))
attempt('sethostname', lambda: socket.sethostname('x'))
attempt('setdomainname', lambda: call(libc.setdomainname, text(b'x'), 1))
attempt('reboot', lambda: syscall(169, 142, 0, 0, 0, 0))
attempt('init_module', lambda: syscall(175, 105, 0, 0, 0))
attempt('finit_module', lambda: syscall(313, 273, -1, 0, 0))
attempt('delete_module', lambda: syscall(176, 106, 0, 0))
attempt('kexec_load', lambda: syscall(246, 104, 0, 0, 0, 0))
attempt('kexec_file_load', lambda: syscall(320, 294, -1, -1, 0, 0, 0))
attempt('swapoff', lambda: syscall(168, 225, 0))
attempt('vhangup', lambda: syscall(153, 58))
if not ARM:
    attempt('iopl', lambda: syscall(172, 0, 3))
    attempt('ioperm', lambda: syscall(173, 0, 0, 1, 1))
    attempt('modify_ldt', lambda: syscall(154, 0, 0, 0, 0))
"""
        ),
        look=DENIED,
    ),
    Program(
        "setuid_files_and_capabilities",
        probe(
            """
setuid = []
for folder, _, files in os.walk('/'):
    if folder.startswith(('/proc', '/sys')): continue
    for name in files:
        path = os.path.join(folder, name)
        try:
            if os.lstat(path).st_mode & 0o6000 and not os.path.islink(path): setuid.append(path)
            elif 'security.capability' in os.listxattr(path, follow_symlinks=False): setuid.append(path)
        except OSError: pass
found['setuid files'] = setuid
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
found['capabilities'] = {name: int(status.get(name, '0'), 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')}
found['no new privileges'] = status.get('NoNewPrivs', '1').strip()
found['ids'] = [*os.getresuid(), *os.getresgid()]
attempt('setuid', lambda: os.setuid(0))
attempt('setgid', lambda: os.setgid(0))
attempt('setgroups', lambda: os.setgroups([0]))
"""
        ),
        limits={"timeout_s": 60},
        look=_no_setuid,
    ),
    Program(
        "doors_to_the_host",
        # What programs that look for a way out of a container look at first.
        probe(
            """
import glob, stat
doors = ('/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock', '/run/containerd', '/run/crio/crio.sock',
         '/run/podman/podman.sock', '/var/run/secrets', '/var/lib/kubelet', '/etc/kubernetes', '/.dockerenv.sock', '/run/systemd/private',
         '/run/dbus/system_bus_socket', '/proc/1/root/root', '/host', '/hostfs', '/rootfs', '/dev/disk', '/dev/mapper/control',
         '/dev/vsock', '/dev/vhost-net', '/dev/nvidia0', '/sys/firmware/dmi/tables/DMI', '/root/.ssh', '/root/.docker', '/root/.aws')
found['doors'] = [d for d in doors if os.access(d, os.R_OK) or os.access(d, os.W_OK)]
found['devices'] = sorted(os.listdir('/dev'))
found['block devices'] = [p for p in glob.glob('/dev/*') if os.path.exists(p) and stat.S_ISBLK(os.stat(p).st_mode)]
found['writable cgroup files'] = [os.path.join(d, f) for d, _, files in os.walk('/sys') for f in files
                                  if os.access(os.path.join(d, f), os.W_OK)][:20]
own = ('overlay', 'proc', 'tmpfs', 'devpts', 'sysfs', 'cgroup', 'cgroup2', 'mqueue', 'none', '9p', 'devtmpfs', 'rootfs', 'gofer')
mounts = [line.split() for line in open('/proc/mounts')]
files = ('/etc/hosts', '/etc/hostname', '/etc/resolv.conf')
found['foreign mounts'] = [m[:3] for m in mounts if m[2] not in own and m[1] not in files]
"""
        ),
        look=_no_door,
    ),
    Program(
        "other_tables_of_calls",
        # The 32-bit calls and those of x32 have numbers that a filter for 64-bit ones does not know.
        probe(
            """
import mmap, signal
def i386():
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
def x32(): return libc.syscall(ctypes.c_long(0x40000000 + 39))
for way in () if ARM else (i386, x32):
    pid = os.fork()
    if pid == 0:
        value = way()
        os._exit(99 if value == os.getpid() else 0)
    status = os.waitpid(pid, 0)[1]
    found[way.__name__] = os.WTERMSIG(status) or os.WEXITSTATUS(status)
"""
        ),
        look=_killed_or_none,
    ),
    Program(
        "typing_into_terminals",
        probe(
            """
import fcntl
a, b = os.openpty()
attempt('type', lambda: fcntl.ioctl(b, 0x5412, b'x'))
attempt('paste', lambda: fcntl.ioctl(b, 0x541C, b'\\x03'))
"""
        ),
        look=refused("EPERM", "EIO", "EINVAL", "ENOTTY"),
    ),
]
