"""The runner has short turns on a processor; what it starts has turns of the usual length."""

import ctypes
import os
from struct import pack, unpack_from

import docker
import pytest

from tests.integration.sandboxes import program, started_cell

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}

#: Since this Linux a process of the usual policy may choose the length of its turns.
SINCE = (6, 12)

OWN = """
import ctypes
attributes = ctypes.create_string_buffer(48)
ctypes.CDLL(None).syscall({number}, 0, attributes, 48, 0)
print(int.from_bytes(attributes.raw[24:32], "little"))
"""


def turn_ns(pid: int) -> int:
    """The length that a process chose, or the kernel's own."""
    attributes = ctypes.create_string_buffer(pack("=I", 48), 48)
    number = SCHED_GETATTR[os.uname().machine]
    assert ctypes.CDLL(None, use_errno=True).syscall(number, pid, attributes, 48, 0) == 0, ctypes.get_errno()
    return int(unpack_from("=Q", attributes.raw, 24)[0])


@pytest.mark.parametrize("image", ["python", "bash"])
def test_the_runner_is_let_in_sooner_than_what_it_starts(engine: docker.DockerClient, image: str) -> None:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    with started_cell(image) as cell:
        pid = int(engine.api.inspect_container(cell.id)["State"]["Pid"])
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(child) for child in file.read().split()]
        assert children
        usual = turn_ns(os.getpid())
        assert turn_ns(pid) == (100_000 if release >= SINCE else usual)
        assert {turn_ns(child) for child in children} == {usual}


def test_a_program_has_turns_of_the_usual_length() -> None:
    with started_cell() as cell:
        ending = cell.run(program(OWN.format(number=SCHED_GETATTR[os.uname().machine])))
    assert int(ending.stdout) == turn_ns(os.getpid())
