"""Is a sandbox what it must be? Asked of the engine, of the inside, and by trying each limit.

`python -m worker.sandbox.posture` prints a JSON list of checks and exits with 1 if one fails. A worker asks the
first two before it takes work, and every hour, and refuses work on any difference.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from domain.limits import load_profiles
from domain.states import Verdict
from worker.sandbox import images, spec
from worker.sandbox.cell import Cell
from worker.sandbox.engine import Engine, EngineError
from worker.sandbox.running import Program
from worker.sandbox.spec import CellSpec, container_config
from worker.sandbox.stream import CellLost
from worker.sandbox.verdict import decide

#: Read inside, as the guest. Kept to /proc, which no image can lack.
_PROBE = """
import json, os, socket
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
mounts = {}
for line in open("/proc/self/mountinfo"):
    fields = line.split()
    mounts[fields[4]] = fields[5].split(",")
print(json.dumps({
    "uid": [int(x) for x in status["Uid"].split()],
    "gid": [int(x) for x in status["Gid"].split()],
    "groups": status.get("Groups", "").split(),
    "capabilities": [status[n] for n in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
    "no_new_privileges": status["NoNewPrivs"],
    "seccomp": status["Seccomp"],
    "interfaces": sorted(line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line),
    "routes": len(open("/proc/net/route").readlines()) - 1,
    "root": mounts["/"],
    "work": mounts["/work"],
    "tmp": mounts["/tmp"],
    "hostname": socket.gethostname(),
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
    "runner_readable": os.access("/proc/1/environ", os.R_OK),
}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    check: str
    ok: bool
    expected: str
    found: str


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
    yield _check("capabilities", ["0" * 16] * 4, seen["capabilities"])
    yield _check("no new privileges inside", "1", seen["no_new_privileges"])
    yield _check("seccomp filters inside", "2", seen["seccomp"])
    yield _check("network interfaces", ["lo"], seen["interfaces"])
    yield _check("routes to anywhere", 0, seen["routes"])
    yield _check("read-only root", True, "ro" in seen["root"])
    yield _check("work folder", True, {"nosuid", "nodev"} <= set(seen["work"]))
    yield _check("temporary folder", True, {"nosuid", "nodev", "noexec"} <= set(seen["tmp"]))
    yield _check("host name", spec.HOSTNAME, seen["hostname"])
    yield _check("descriptors", [0, 1, 2], seen["descriptors"])
    yield _check("runner out of reach", False, seen["runner_readable"])
    left = cell.wait_clean()
    yield Check("reset", left is None, "clean", left or "clean")


def _try(cell: Cell, code: str, **limits: Any) -> tuple[Verdict, str]:
    profile = cell.spec.profile
    program = Program(code.encode(), "probe.py", profile.resolve(limits))
    ending = cell.run(program)
    return decide(ending).verdict, ending.stdout.decode(errors="replace").strip()


#: name, program, limits it is given, verdict, output. Each ends in a fresh cell.
_TRIALS: tuple[tuple[str, str, dict[str, Any], Verdict, str | None], ...] = (
    (
        "memory limit",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        {"memory_mb": 64},
        Verdict.OUT_OF_MEMORY,
        None,
    ),
    ("time limit", "while True: pass", {"timeout_s": 1}, Verdict.TIMEOUT, None),
    (
        "output limit",
        "while True: print('x' * 1000)",
        {"output_bytes": 4096},
        Verdict.OUTPUT_LIMIT,
        None,
    ),
    (
        "process limit",
        "import os, sys, time\n"
        "n = 0\n"
        "try:\n"
        "    while n < 5000:\n"
        "        if os.fork() == 0: time.sleep(60)\n"
        "        n += 1\n"
        "except BlockingIOError: print('limited' if n < 1000 else n)",
        {},
        Verdict.OK,
        "limited",
    ),
    (
        "disk limit",
        "import os\n"
        "n = 0\n"
        "try:\n"
        "    for i in range(64):\n"
        "        with open(f'/work/{i}', 'wb') as f:\n"
        "            for _ in range(32): n += f.write(bytes(1 << 20))\n"
        "except OSError as e: print(os.strerror(e.errno))",
        {},
        Verdict.OK,
        "No space left on device",
    ),
)


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
    for name, code, limits, verdict, output in _TRIALS if trials else ():
        probe = cell()
        try:
            probe.start()
            got, said = _try(probe, code, **limits)
        except CellLost as e:
            checks.append(Check(name, False, verdict, str(e)))
            continue
        finally:
            probe.destroy()
        ok = got is verdict and (output is None or said == output)
        checks.append(Check(name, ok, f"{verdict} {output or ''}".strip(), f"{got} {said[:60]}".strip()))
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
