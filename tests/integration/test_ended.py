"""The end of a program, told by itself before its process is gone, or heard from the kernel."""

import docker
import pytest

from tests.integration.sandboxes import program, started_cell

pytestmark = pytest.mark.usefixtures("engine", "image")

FORGED = """
import ctypes, os, re, struct, time
for line in open('/proc/self/maps'):
    start, end, mode = re.match('([0-9a-f]+)-([0-9a-f]+) (.{4})', line).groups()
    if mode == 'rw-s':
        page = (ctypes.c_char * 8).from_address(int(start, 16))
        page[:] = struct.pack('ii', os.getpid(), 7)
os.close(1)
os.close(2)
time.sleep(60)
"""

CHILD_FINISHES = """
import os, time
if os.fork():
    os.close(1)
    os.close(2)
    os.wait()
    time.sleep(0.3)
    os._exit(5)
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print(1)", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit(-1)", 255),
        ("1 / 0", 1),
        ("import os; os._exit(4)", 4),
        ("import os; os.close(1); os.close(2)", 0),
        ("import subprocess; subprocess.run(['true'])", 0),
        (CHILD_FINISHES, 5),
        (FORGED, 7),  # its own choice, and its end
    ],
)
def test_exit_codes(code: str, expected: int) -> None:
    with started_cell() as cell:
        for _ in range(2):
            ending = cell.run(program(code), reset=True)
            assert (ending.status, ending.timed_out) == (expected << 8, False)
            assert cell.wait_clean() is None


def test_output_is_whole_and_use_is_counted() -> None:
    code = "data = bytearray(1 << 26)\nfor n in range(2_000_000): pass\nprint('x' * 300_000)"
    with started_cell() as cell:
        ending = cell.run(program(code))
    assert ending.stdout == b"x" * 300_000 + b"\n"
    assert (ending.cpu_s or 0) > 0.01
    assert (ending.peak_bytes or 0) > 1 << 26


def test_children_are_counted() -> None:
    code = "import subprocess; subprocess.run(['python3', '-c', 'for n in range(4_000_000): pass'])"
    with started_cell() as cell:
        ending = cell.run(program(code))
    assert (ending.cpu_s or 0) > 0.05


def test_a_heavy_program_ends_and_the_cell_goes_on(engine: docker.DockerClient) -> None:
    """The helper hears of the end later than we do, and must not take it for an answer to what we ask next."""
    with started_cell() as cell:
        cell.preload()
        while cell.preloading:
            assert cell.alive()
        levels = []
        for _ in range(3):
            for code in ("import pandas", "print()", "import json", "import sklearn"):
                ending = cell.run(program(code), reset=True)
                assert (ending.status, cell.wait_clean()) == (0, None)
                levels.append(ending.level)
    assert levels == [2, 0, 1, 3] * 3
