"""The tiers that this machine's engine has: tests of the sandbox run on each of them."""

import docker
from docker.errors import DockerException

from domain.states import Runtime


def here() -> list[Runtime]:
    """runc, and gVisor where it is registered (`retort engine gvisor` does that)."""
    try:
        client = docker.from_env()
        known = client.info().get("Runtimes") or {}
        client.close()
    except DockerException:
        return [Runtime.RUNC]  # the fixture that needs the engine says what is wrong
    return [runtime for runtime in Runtime if runtime in known or runtime is Runtime.RUNC]


TIERS = here()
STRONG = [runtime for runtime in TIERS if runtime is Runtime.RUNSC]
