"""The containers are what they must be: asked of the engine and of the inside; and the asking can fail."""

import copy
import json
import subprocess
import sys
from typing import Any

import docker
import pytest

from domain.states import Runtime
from tests.integration.sandboxes import labelled_containers, started_cell
from tests.integration.tiers import TIERS
from worker.housekeeping import Guard
from worker.sandbox import posture
from worker.sandbox.engine import Engine
from worker.sandbox.lending import PoolSettings
from worker.sandbox.pool import Pool
from worker.sandbox.spec import container_config


@pytest.mark.parametrize("runtime", TIERS)
def test_effective_settings_and_inside(engine: docker.DockerClient, image: str, runtime: str) -> None:
    checks = posture.examine(Engine(), image, runtime, f"tests-posture-{runtime}", trials=False)
    assert posture.differences(checks) is None
    seen = {check.check for check in checks}
    assert {"capabilities", "CapDrop", "seccomp profile", "network interfaces", "reset"} <= seen
    assert labelled_containers(f"tests-posture-{runtime}") == []


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("Memory", 1 << 40),
        ("MemorySwap", -1),
        ("PidsLimit", None),
        ("NetworkMode", "default"),
        ("ReadonlyRootfs", False),
        ("CapAdd", ["CAP_SYS_ADMIN"]),
        ("CapDrop", None),
        ("SecurityOpt", ["no-new-privileges"]),
        ("SecurityOpt", ["seccomp=unconfined"]),
        ("Privileged", True),
        ("Binds", ["/:/host"]),
        ("Runtime", "other"),
        ("IpcMode", "host"),
        ("Ulimits", []),
        ("Tmpfs", {}),
    ],
)
def test_a_weaker_setting_is_seen(engine: docker.DockerClient, image: str, part: str, value: object) -> None:
    with started_cell() as cell:
        wanted = container_config(cell.spec)
        inspected = Engine().inspect(cell.id)
    assert posture.differences(list(posture.effective(wanted, inspected))) is None
    weaker: dict[str, Any] = copy.deepcopy(inspected)
    weaker["HostConfig"][part] = value
    assert posture.differences(list(posture.effective(wanted, weaker))) is not None


@pytest.mark.parametrize("runtime", TIERS)
def test_every_limit_is_proven(engine: docker.DockerClient, image: str, runtime: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker.sandbox.posture", runtime], capture_output=True, check=False
    )
    checks = json.loads(done.stdout)
    assert done.returncode == 0, [c for c in checks if not c["ok"]]
    assert len(checks) > 40
    proven = {check["limit"] for check in checks} - {None}
    assert proven == {"memory", "time", "output", "pids", "disk", "network", "capabilities", "seccomp"}


def test_unknown_runtime_never_falls_back(engine: docker.DockerClient, image: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker.sandbox.posture", "no-such-runtime"], capture_output=True, check=False
    )
    assert done.returncode == 2
    [check] = json.loads(done.stdout)
    assert "no-such-runtime" in check["found"]


def test_a_missing_image_keeps_the_pool_closed_and_says_how_to_build_it(engine: docker.DockerClient) -> None:
    pool = Pool(Engine(), PoolSettings("tests-guard"))
    Guard(engine=Engine(), pool=pool, image="retort/python:none").step()
    assert pool.why_not is not None
    assert "worker.sandbox.images build" in pool.why_not


def test_the_guard_opens_the_pool(engine: docker.DockerClient, image: str) -> None:
    pool = Pool(Engine(), PoolSettings("tests-guard"))
    assert pool.why_not is not None
    Guard(engine=Engine(), pool=pool, image=image).step()
    assert pool.why_not is None
    assert pool.runtimes == (Runtime.RUNC,)
    assert labelled_containers("tests-guard.posture") == []


def test_a_tier_that_the_engine_lacks_closes_that_tier_alone(engine: docker.DockerClient, image: str) -> None:
    missing = [Runtime.RUNSC] if Runtime.RUNSC not in TIERS else []
    pool = Pool(Engine(), PoolSettings("tests-guard-tiers", runtimes=(Runtime.RUNC, *missing)))
    Guard(engine=Engine(), pool=pool, image=image).step()
    assert pool.runtimes == (Runtime.RUNC,)
    assert list(pool.refusals) == missing
    pool.refuse(Runtime.RUNC, "for a reason")
    assert pool.why_not is not None
