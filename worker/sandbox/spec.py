"""What a sandbox container must be: every hardening setting, in one place.

`container_config` gives the body that creates a container; `posture.py` compares the same document with what
the engine says it made of it, and with what a guest sees.
"""

import json
import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from domain.limits import Limits, Profile
from domain.states import Runtime

MB = 1 << 20

#: Memory that the runner itself needs, on top of what the user's limit grants (MB).
RUNNER_MB = 24

#: Room while the heavy packages are imported; afterwards the limit is set to what they were seen to hold.
PRELOAD_MB = 512

#: What gVisor's kernel needs besides, as it is in the same cgroup: memory (MB), and threads of its own and for
#: each process of a guest. With fewer than 256 it does not start.
RUNSC_MB = 32
RUNSC_PIDS = 1024

#: Processes of our own inside: the runner, the zygote, and one being forked.
RUNNER_PIDS = 4

#: Weight against everything else on the host (engine, database, our own processes have 1024): answering is
#: never held up by what it answers.
CPU_SHARES = 512

#: Raises every sandbox process above the host's own in the kernel's choice of whom to kill first.
OOM_SCORE_ADJ = 500

WORK = "/work"
HOSTNAME = "sandbox"
CAPABILITIES = ("KILL", "SETGID", "SETUID")

LABEL_INSTANCE = "retort.instance"
LABEL_WORKER = "retort.worker"
LABEL_IMAGE = "retort.cell.image"

_CPU_PERIOD_US = 100_000


def new_uid() -> int:
    """A user id for the guest of one container.

    Each container has its own: the kernel counts some resources (inotify instances, pending signals, keys) per
    user id over all containers, and jobs must not be able to use up each other's.
    """
    return random.randrange(1_000_000, 2_000_000)  # noqa: S311  (only to be distinct)


@cache
def seccomp_profile(runtime: str = Runtime.RUNC) -> str:
    """Our pinned seccomp profile, as the text the engine wants.

    On gVisor it is a second wall, inside the first: runsc applies it where it is told to (`--oci-seccomp`). Old
    versions do so without the error numbers, and refuse `clone3` with one that tells the C library nothing; so
    there the answer is left to gVisor.
    """
    document = json.loads(files("worker.sandbox").joinpath("seccomp.json").read_text(encoding="utf-8"))
    if runtime == Runtime.RUNSC:
        for rule in document["syscalls"]:
            if rule["names"] == ["clone3"]:
                rule["action"] = "SCMP_ACT_ALLOW"
                del rule["errnoRet"]
    return json.dumps(document)


@dataclass(frozen=True, slots=True)
class CellSpec:
    """What distinguishes one container from another. `overhead_mb`: ours, on top of the user's memory."""

    image: str
    profile: Profile
    runtime: str
    instance: str
    worker: str
    uid: int
    limits: Limits
    overhead_mb: int = RUNNER_MB


def resources(limits: Limits, overhead_mb: int) -> dict[str, int]:
    """The settings that can be changed on a running container: bytes and microseconds per period."""
    memory = (limits.memory_mb + overhead_mb) * MB
    return {
        "Memory": memory,
        "MemorySwap": memory,  # memory and swap together: no swap
        "CpuPeriod": _CPU_PERIOD_US,
        "CpuQuota": int(limits.cpus * _CPU_PERIOD_US),
    }


def overhead_mb(spec: CellSpec) -> int:
    """What the runner, and on gVisor its kernel, need on top of the user's memory."""
    return spec.overhead_mb + (RUNSC_MB if spec.runtime == Runtime.RUNSC else 0)


def _tmpfs(spec: CellSpec) -> dict[str, str]:
    fixed = spec.profile.fixed
    common = "rw,nosuid,nodev"
    return {
        WORK: f"{common},exec,size={fixed.work_mb * MB},nr_inodes={fixed.work_inodes},"
        f"uid={spec.uid},gid={spec.uid},mode=0700",
        "/tmp": f"{common},noexec,size={fixed.tmp_mb * MB},nr_inodes={fixed.work_inodes},mode=1777",  # noqa: S108
    }


def host_config(spec: CellSpec) -> dict[str, Any]:
    """The engine's `HostConfig`: isolation and limits."""
    fixed = spec.profile.fixed
    return {
        **resources(spec.limits, overhead_mb(spec)),
        "CpuShares": CPU_SHARES,
        "PidsLimit": fixed.pids + RUNNER_PIDS + (RUNSC_PIDS if spec.runtime == Runtime.RUNSC else 0),
        "OomScoreAdj": OOM_SCORE_ADJ,
        "NetworkMode": "none",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "ShmSize": fixed.shm_mb * MB,
        "ReadonlyRootfs": True,
        "Tmpfs": _tmpfs(spec),
        "Binds": None,
        "Mounts": [],
        "Devices": [],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile(spec.runtime)}"],
        "GroupAdd": [],
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": fixed.open_files, "Hard": fixed.open_files},
            {"Name": "fsize", "Soft": fixed.file_mb * MB, "Hard": fixed.file_mb * MB},
            *(
                [{"Name": "nproc", "Soft": fixed.pids, "Hard": fixed.pids}]
                if spec.runtime == Runtime.RUNSC
                else []
            ),
            {"Name": "memlock", "Soft": 65536, "Hard": 65536},
            {"Name": "msgqueue", "Soft": 0, "Hard": 0},
        ],
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "Init": False,
        "Runtime": spec.runtime,
        "PublishAllPorts": False,
        "ExtraHosts": [],
        "Dns": [],
    }


def container_config(spec: CellSpec) -> dict[str, Any]:
    """The body of the engine's create call.

    `StdinOnce` makes the engine close the runner's stdin when we are gone, so that a cell ends itself when
    its worker is killed.
    """
    return {
        "Image": spec.image,
        "Cmd": [str(spec.uid)],
        "Hostname": HOSTNAME,
        "Domainname": "",
        "User": "0:0",
        "WorkingDir": WORK,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        "StdinOnce": True,
        "Tty": False,
        "NetworkDisabled": True,
        "Labels": {
            LABEL_INSTANCE: spec.instance,
            LABEL_WORKER: spec.worker,
            LABEL_IMAGE: spec.image,
        },
        "HostConfig": host_config(spec),
    }
