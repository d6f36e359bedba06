"""What `retort doctor` looks at: everything the service needs from its machine, each with what to do."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retort import commands, proofs
from retort.findings import Check
from retort.state import StateFolder

FREE_DISK_GB = 5
FREE_MEMORY_MB = 1024

#: Versions in which flaws that matter for sandboxes were fixed, by release series; checked 2026-11-21.
ENGINE_FIXED = ((29, 5, 1),)  # archive endpoints (host root); AF_ALG in the default seccomp profile: 29.4.3
RUNC_FIXED = ((1, 2, 8), (1, 3, 3))


def examine(state: StateFolder, host: str, port: int) -> Iterator[Check]:
    """All checks, in an order in which the first failure explains later ones."""
    yield _python()
    yield _disk(state)
    yield _memory()
    yield from _embedded()
    yield _port(state, host, port)
    info = None
    for check, found in _engine():
        info = found or info
        yield check
    if info is not None:
        yield from _versions(info)
        yield from _engine_settings(info)
        yield from _images()
        runtimes = info.get("Runtimes") or {}
        yield from proofs.proven(_module, "runc")
        if "runsc" in runtimes:
            yield proofs.runsc_version()
            yield from proofs.proven(_module, "runsc")


def _python() -> Check:
    return Check(
        "Python", sys.version_info >= (3, 11), platform.python_version(), "Retort needs Python 3.11 or newer."
    )


def _disk(state: StateFolder) -> Check:
    folder = state.root if state.root.exists() else state.root.parent
    free = shutil.disk_usage(folder).free / 1e9
    todo = f"Free some space near {folder}: images and data need about {FREE_DISK_GB} GB."
    return Check("free disk", free >= FREE_DISK_GB, f"{free:.0f} GB", todo)


def _memory() -> Check:
    found = re.search(r"^MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    free = int(found[1]) // 1024 if found else 0
    todo = "Each job may use 512 MB by default; with less than 1 GB free, jobs will fight for memory."
    return Check("free memory", free >= FREE_MEMORY_MB or None, f"{free} MB", todo)


def _embedded() -> Iterator[Check]:
    from retort.embedded import EmbeddedError, Postgres, Valkey, socket_folder

    for kind, variable in ((Postgres, "RETORT_DATABASE_URL"), (Valkey, "RETORT_REDIS_URL")):
        if os.environ.get(variable):
            yield Check(kind.title, True, f"not embedded: {variable} is set")
            continue
        with tempfile.TemporaryDirectory(prefix="retort-doctor-") as folder:
            server = kind(Path(folder, "data"), socket_folder(Path(folder, "run")))
            try:
                server.start()
                yield Check(kind.title, True, "the embedded one starts")
            except (EmbeddedError, OSError) as reason:
                yield Check(
                    kind.title, False, str(reason), f"Or set {variable} to the URL of a server of your own."
                )
            finally:
                server.stop()


def _port(state: StateFolder, host: str, port: int) -> Check:
    from retort.starting import StartFailed, free_port

    if state.holder() is not None and state.status().get("port") == port:
        return Check("port", True, f"{host}:{port} is our own service")
    try:
        free_port(host, port)
    except StartFailed as reason:
        return Check("port", False, str(reason), "Choose another with --port or RETORT_PORT.")
    return Check("port", True, f"{host}:{port} is free")


def _engine() -> Iterator[tuple[Check, dict[str, Any] | None]]:
    from retort import engine

    why_not = engine.answers()
    if why_not is not None:
        todo = "`retort engine ensure` installs or starts Docker where it can, and else says what to do."
        yield Check("container engine", False, why_not, todo), None
        return
    import docker

    client = docker.from_env(timeout=20)
    try:
        info = {**client.info(), "Version": client.version()}
    finally:
        client.close()
    yield Check("container engine", True, f"Docker {info['Version'].get('Version')}"), info


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> parse_version("20.10.24+dfsg1"), parse_version("1.1.5+ds1")
    ((20, 10, 24), (1, 1, 5))
    """
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(map(int, found[1].split("."))) if found else ()


def older_than_fixed(version: tuple[int, ...], fixed: tuple[tuple[int, ...], ...]) -> bool:
    """Whether `version` lacks a fix that each release series in `fixed` got at its own number.

    >>> fixed = ((1, 2, 8), (1, 3, 3))
    >>> [older_than_fixed(version, fixed) for version in ((1, 1, 5), (1, 2, 9), (1, 3, 0), (1, 4, 0))]
    [True, False, True, False]
    """
    same_series = [number for number in fixed if number[:2] == version[:2]]
    return version < (same_series[0] if same_series else min(fixed) if version < min(fixed) else max(fixed))


def _versions(info: dict[str, Any]) -> Iterator[Check]:
    components = {
        part.get("Name"): str(part.get("Version")) for part in info["Version"].get("Components") or ()
    }
    for name, fixed in (("Engine", ENGINE_FIXED), ("runc", RUNC_FIXED)):
        text = components.get(name, "unknown")
        wanted = " / ".join(".".join(map(str, number)) for number in fixed)
        if older_than_fixed(parse_version(text), fixed):
            todo = (
                f"Older than the fixed version ({wanted}): check that your distribution backported the fixes."
            )
            yield Check(f"{name.lower()} version", None, text, todo)
        else:
            yield Check(f"{name.lower()} version", True, text)


def _engine_settings(info: dict[str, Any]) -> Iterator[Check]:
    yield Check("cgroups", True, f"version {info.get('CgroupVersion', '1')}, {info.get('CgroupDriver')}")
    for title, key in (("memory", "MemoryLimit"), ("swap", "SwapLimit"), ("pids", "PidsLimit"),
                       ("CPU quota", "CpuCfsQuota")):  # fmt: skip
        works = bool(info.get(key))
        todo = f"The engine cannot limit {title} on this kernel: enable that cgroup controller."
        yield Check(f"limit: {title}", works, "supported" if works else "not supported", todo)
    options = " ".join(info.get("SecurityOptions") or ())
    seccomp = "seccomp" in options and "unconfined" not in options
    yield Check("seccomp", seccomp, options or "none", "The kernel or the engine lacks seccomp: use others.")
    yield Check("storage", True, str(info.get("Driver")))
    runtimes = info.get("Runtimes") or {}
    yield Check("runtime runc", "runc" in runtimes, ", ".join(sorted(runtimes)), "Install runc.")
    todo = (
        "With gVisor sandboxes do not share the host's kernel: `retort engine gvisor` installs it where it can."
    )
    yield Check("runtime runsc", True if "runsc" in runtimes else None,
                "registered" if "runsc" in runtimes else "not registered with the engine", todo)  # fmt: skip


def _images() -> Iterator[Check]:
    code, out, err = _module("worker.sandbox.images", "list")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    if code and not lines:
        yield Check("sandbox images", False, _last_line(err) or "cannot be listed", "See the message.")
    todo = "Build it: `make images`, or `python -m worker.sandbox.images build`."
    for words in lines:
        yield Check(f"image {words[0]}", words[-1] == "built", words[-1], todo)


def _module(name: str, *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        commands.python(name, *args),
        capture_output=True,
        text=True,
        env=commands.environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
