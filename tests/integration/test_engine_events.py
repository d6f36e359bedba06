"""What the engine tells of a container's end besides its state."""

from collections.abc import Iterator
from contextlib import contextmanager

import docker

from tests.harness import instance_name, sweep
from worker.sandbox.engine import Engine

MB = 1 << 20


@contextmanager
def ended(engine: docker.DockerClient, image: str, code: str) -> Iterator[str]:
    """A container of 16 MB that ran this and was killed."""
    instance = instance_name()
    limits = engine.api.create_host_config(mem_limit=16 * MB, memswap_limit=16 * MB)
    container = engine.api.create_container(
        image,
        entrypoint=["python3", "-c", code],
        host_config=limits,
        labels={"retort.instance": instance},
    )["Id"]
    try:
        engine.api.start(container)
        assert engine.api.wait(container)["StatusCode"] == 137
        yield container
    finally:
        sweep(engine, instance)


def test_an_end_of_memory_is_among_its_events(engine: docker.DockerClient, image: str) -> None:
    with ended(engine, image, "bytearray(64 << 20)") as container:
        assert Engine().ran_out_of_memory(container, 5.0)


def test_another_end_is_not(engine: docker.DockerClient, image: str) -> None:
    with ended(engine, image, "raise SystemExit(137)") as container:
        assert not Engine().ran_out_of_memory(container, 0.2)
