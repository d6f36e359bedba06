"""Is a sandbox what it must be? Asked of the engine, of the inside, and (trials.py) by trying each limit.

`python -m worker.sandbox.posture [RUNTIME]` prints a JSON list of checks and exits with 1 if one fails. A
worker asks the first two of each tier before it takes work there, and every hour, and refuses work on any
difference.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from domain.limits import load_profiles
from domain.states import Runtime
from worker.sandbox import images, spec
from worker.sandbox.cell import Cell
from worker.sandbox.check import Check
from worker.sandbox.engine import Engine, EngineError
from worker.sandbox.running import Program
from worker.sandbox.spec import CellSpec, container_config
from worker.sandbox.stream import CellLost
from worker.sandbox.trials import prove

#: Read inside, as the guest. Kept to /proc, which no image can lack.
_PROBE = """
import json, os, socket
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
mounts = {}
for line in open("/proc/self/mountinfo"):
    fields = line.split()
    mounts[fields[4]] = fields[5].split(",")
def reached(name):
    try:
        os.close(os.open("/proc/1/" + name, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
print(json.dumps({
    "uid": [int(x) for x in status["Uid"].split()],
    "gid": [int(x) for x in status["Gid"].split()],
    "groups": status.get("Groups", "").split(),
    "capabilities": [status[n] for n in ("CapInh", "CapPrm", "CapEff", "CapAmb") if n in status],
    "no_new_privileges": status.get("NoNewPrivs"),
    "seccomp": status.get("Seccomp"),
    "interfaces": sorted(line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line),
    "routes": [line for line in open("/proc/net/route").readlines()[1:] if line.strip()],
    "root": mounts["/"],
    "work": mounts["/work"],
    "tmp": mounts["/tmp"],
    "hostname": socket.gethostname(),
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
    "runner": [name for name in ("mem", "fd/0", "fd/1", "fd/2", "cwd", "root", "environ") if reached(name)],
}))
"""


def _check(name: str, expected: object, found: object) -> Check:
    return Check(name, expected == found, str(expected), str(found))


def effective(wanted: dict[str, Any], inspected: dict[str, Any]) -> Iterator[Check]:
    """The settings of a create call against what the engine says it made of them."""
    config, host = inspected["Config"], inspected["HostConfig"]
    for name in ("Hostname", "User", "WorkingDir", "OpenStdin", "StdinOnce", "Tty"):
        yield _check(name, wanted[name], config[name])
    for name, value in wanted["HostConfig"].items():
        if name == "SecurityOpt":
            yield from _security(value, host.get(name) or [])
        elif name in ("CapAdd", "CapDrop"):
            # Engines add or leave out the prefix as they like.
            given = sorted(c.removeprefix("CAP_") for c in host.get(name) or [])
            yield _check(name, sorted(value), given)
        else:
            # Engines answer null for what is empty.
            yield _check(name, value or None, host.get(name) or None)


def _security(wanted: list[str], found: list[str]) -> Iterator[Check]:
    plain = [option for option in found if not option.startswith("seccomp=")]
    yield _check("no-new-privileges", True, any("no-new-privileges" in option for option in plain))
    ours = next(json.loads(o.removeprefix("seccomp=")) for o in wanted if o.startswith("seccomp="))
    theirs = [json.loads(o.removeprefix("seccomp=")) for o in found if o.startswith("seccomp={")]
    same = theirs == [ours]
    yield Check("seccomp profile", same, "ours", "ours" if same else f"{len(theirs)} others")


def inside(cell: Cell, wrapped: Callable[[str], Program] | None = None) -> Iterator[Check]:
    """What a guest sees of itself.

    `wrapped` makes a program of an image that is not Python's, which runs this Python program.
    """
    program = wrapped(_PROBE) if wrapped else Program(_PROBE.encode(), "probe.py", cell.spec.limits)
    ending = cell.run(program, reset=True)
    if ending.status != 0:
        yield Check("probe", False, "runs", ending.stderr.decode(errors="replace")[-300:])
        return
    seen = json.loads(ending.stdout)
    uid = cell.spec.uid
    yield _check("user", [uid] * 4, seen["uid"])
    yield _check("group", [uid] * 4, seen["gid"])
    yield _check("other groups", [], seen["groups"])
    gvisor = cell.spec.runtime == Runtime.RUNSC
    yield _check("capabilities", ["0" * 16] * len(seen["capabilities"]), seen["capabilities"])
    if not gvisor or seen["no_new_privileges"] is not None:  # old gVisor has it and does not tell
        yield _check("no new privileges inside", "1", seen["no_new_privileges"])
    yield _check("seccomp filters inside", "2", seen["seccomp"])
    yield _check("network interfaces", ["lo"], seen["interfaces"])
    yield _check("routes to anywhere", [], seen["routes"])
    yield _check("read-only root", True, "ro" in seen["root"])
    # gVisor does not show the other two; no file in its memory is set-user-id or a device to begin with.
    mounted = set() if gvisor else {"nosuid", "nodev"}
    yield _check("work folder", True, mounted <= set(seen["work"]))
    yield _check("temporary folder", True, mounted | {"noexec"} <= set(seen["tmp"]))
    yield _check("host name", spec.HOSTNAME, seen["hostname"])
    yield _check("descriptors", [0, 1, 2], seen["descriptors"])
    # gVisor lets its environment be read, which holds nothing; never its memory or its descriptors.
    reached = [name for name in seen["runner"] if not (gvisor and name in ("environ", "cwd", "root"))]
    yield _check("runner out of reach", [], reached)
    left = cell.wait_clean()
    yield Check("reset", left is None, "clean", left or "clean")


def examine(engine: Engine, image: str, runtime: str, instance: str, *, trials: bool) -> list[Check]:
    """Start probe cells and look at them from outside and inside; with `trials` also try each limit.

    Raises:
        EngineError, CellLost: the engine or the cell failed; nothing is known.
    """
    profile = load_profiles()["standard"]

    def cell() -> Cell:
        return Cell(
            engine,
            CellSpec(image, profile, runtime, instance, "posture", spec.new_uid(), profile.defaults),
        )

    checks: list[Check] = []
    probe = cell()
    try:
        probe.start()
        checks += effective(container_config(probe.spec), engine.inspect(probe.id))
        checks += inside(probe)
    finally:
        probe.destroy()
    if trials:
        checks += prove(engine, image, runtime, instance, profile)
    return checks


def differences(checks: list[Check]) -> str | None:
    """What is not as it must be, as one line; None if nothing."""
    bad = [f"{c.check}: {c.found} instead of {c.expected}" for c in checks if not c.ok]
    return "; ".join(bad) or None


def main() -> int:
    """Print all checks as JSON; 1 if one failed, 2 if nothing could be checked."""
    runtime = sys.argv[1] if len(sys.argv) > 1 else "runc"
    try:
        checks = examine(Engine(), images.resolve("python").tag, runtime, "retort-posture", trials=True)
    except (EngineError, CellLost, images.ImageMissing) as e:
        print(json.dumps([asdict(Check("sandbox", False, "starts", str(e)))]))
        return 2
    print(json.dumps([asdict(check) for check in checks], indent=1))
    return 0 if all(check.ok for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
