"""The seccomp profile as a document: what it must name, and what it must never name."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import worker.sandbox

PROFILE: dict[str, Any] = json.loads(
    (Path(worker.sandbox.__file__).parent / "seccomp.json").read_text(encoding="utf-8")
)
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"

FORBIDDEN = """
    _sysctl acct add_key adjtimex bpf cachestat chroot clock_adjtime clock_settime create_module
    delete_module fanotify_init fanotify_mark finit_module fsconfig fsmount fsopen fspick get_kernel_syms
    get_mempolicy init_module io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit
    io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
    listmount lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mbind memfd_secret
    migrate_pages mlock mlock2 mlockall modify_ldt mount mount_setattr move_mount move_pages mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd munlock
    munlockall name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd
    pivot_root process_madvise process_mrelease process_vm_readv process_vm_writev ptrace query_module
    quotactl quotactl_fd reboot remap_file_pages request_key semctl semget semop semtimedop set_mempolicy
    set_mempolicy_home_node setdomainname sethostname setns settimeofday shmat shmctl shmdt shmget
    statmount stime swapoff swapon sysfs syslog umount umount2 unshare uselib userfaultfd ustat vhangup
    vm86 vm86old vmsplice
""".split()  # noqa: SIM905

CONDITIONAL = {"clone", "ioctl", "memfd_create", "mmap", "personality", "socket", "socketpair"}


def rules_of(name: str) -> list[dict[str, Any]]:
    return [rule for rule in PROFILE["syscalls"] if name in rule["names"]]


def test_refuses_by_default() -> None:
    assert PROFILE["defaultAction"] == ERRNO


def test_only_native_architectures() -> None:
    """No 32-bit system calls: another table of numbers, another way in."""
    assert {item["architecture"]: item["subArchitectures"] for item in PROFILE["archMap"]} == {
        "SCMP_ARCH_X86_64": [],
        "SCMP_ARCH_AARCH64": [],
    }


@pytest.mark.parametrize("name", FORBIDDEN)
def test_forbidden_call_is_not_allowed(name: str) -> None:
    assert rules_of(name) == []


def test_unconditional_calls_are_named_once() -> None:
    """An unconditional rule wins over conditional ones: one duplicate could void a condition."""
    counts = Counter(name for rule in PROFILE["syscalls"] if not rule.get("args") for name in rule["names"])
    assert [name for name, count in counts.items() if count > 1] == []
    assert CONDITIONAL.isdisjoint(counts)


def test_conditional_calls_are_the_ones_we_know() -> None:
    assert {name for rule in PROFILE["syscalls"] if rule.get("args") for name in rule["names"]} == CONDITIONAL


def test_one_comparison_a_rule() -> None:
    """Of several comparisons of one argument, runtimes make alternatives instead of a conjunction."""
    assert all(len(rule.get("args", [])) <= 1 for rule in PROFILE["syscalls"])


def test_no_capability_widens_it() -> None:
    """The engine's own profile allows more to containers with capabilities; ours never does."""
    assert all({"includes", "excludes"}.isdisjoint(rule) for rule in PROFILE["syscalls"])


def test_actions_are_the_two_we_use() -> None:
    assert {rule["action"] for rule in PROFILE["syscalls"]} == {ALLOW, ERRNO}
    assert all("errnoRet" in rule for rule in PROFILE["syscalls"] if rule["action"] == ERRNO)


def test_clone_excludes_every_namespace_flag() -> None:
    flags = {
        "NEWNS": 0x00020000,
        "NEWCGROUP": 0x02000000,
        "NEWUTS": 0x04000000,
        "NEWIPC": 0x08000000,
        "NEWUSER": 0x10000000,
        "NEWPID": 0x20000000,
        "NEWNET": 0x40000000,
    }
    [rule] = rules_of("clone")
    assert rule["args"] == [
        {"index": 0, "value": sum(flags.values()), "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    ]


def test_ioctl_lets_everything_through_but_typing_into_a_terminal() -> None:
    def allowed(request: int) -> bool:
        """Decide as the filter does: any rule that matches allows."""
        conditions = [rule["args"][0] for rule in rules_of("ioctl")]
        assert {item["op"] for item in conditions} == {"SCMP_CMP_MASKED_EQ"}
        return any(request & item["value"] == item["valueTwo"] for item in conditions)

    refused = [request for request in range(0x10000) if not allowed(request)]
    assert refused == [0x5412, 0x541C]
    assert not allowed(0x1_0000_5412)  # the kernel ignores the upper half
    assert all(allowed(0x5412 ^ (1 << bit)) for bit in range(32) if 0x5412 ^ (1 << bit) != 0x541C)


@pytest.mark.parametrize("name", ["execve", "fork", "futex", "openat", "prctl", "rseq", "setresuid", "wait4"])
def test_what_every_program_needs_is_allowed(name: str) -> None:
    assert [rule["action"] for rule in rules_of(name)] == [ALLOW]
