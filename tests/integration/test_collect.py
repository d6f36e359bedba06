"""What programs leave in the work folder, on the real engine: files come back, everything else is told of."""

import os
from collections.abc import Iterator
from dataclasses import replace

import docker
import pytest

from domain.files import MB, FileLimits, LeftOut
from tests.integration.sandboxes import STANDARD, started_cell
from tests.unit.test_cell_files import Kept
from worker.sandbox.cell import Cell
from worker.sandbox.running import Ending, Input, Program

LIMITS = replace(STANDARD.files, artifact_mb=1, artifacts_mb=3, depth=4)


@pytest.fixture(scope="module")
def cell(engine: docker.DockerClient, image: str) -> Iterator[Cell]:
    """One cell, recycled from test to test."""
    with started_cell() as started:
        yield started


def given_input(name: str, content: bytes) -> Input:
    """A file for the work folder."""
    return Input(name, lambda: [content])


def run(
    cell: Cell,
    code: str,
    inputs: dict[str, bytes] | None = None,
    *,
    limits: FileLimits = LIMITS,
    clean: bool = True,
) -> tuple[Ending, dict[str, bytes]]:
    """Run a program that ends well: its end, and the files that it left."""
    sink = Kept()
    given = [given_input(name, content) for name, content in (inputs or {}).items()]
    wanted = STANDARD.resolve({"timeout_s": 30})
    program = Program(code.encode(), "main.py", wanted, files=given, collect=limits)
    ending = cell.run(program, reset=True, sink=sink)
    assert (ending.status, ending.stderr, ending.lost) == (0, b"", False)
    if clean:
        assert cell.wait_clean() is None
    return ending, sink.files


def test_nothing_left_is_nothing_told(cell: Cell) -> None:
    ending, files = run(cell, "print(1)")
    assert (files, ending.left_out, ending.left_out_more) == ({}, {}, 0)


def test_bytes_come_back_as_they_are(cell: Cell) -> None:
    content = os.urandom(1_000_000) + bytes(range(256))
    code = "import shutil, os; os.mkdir('d'); shutil.copy('in.bin', 'd/out.bin'); open('empty', 'w')"
    _, files = run(cell, code, {"in.bin": content})
    assert files == {"d/out.bin": content, "empty": b""}


def test_of_the_inputs_only_what_changed_comes_back(cell: Cell) -> None:
    code = """
open('same').read()
open('d/changed', 'r+').write('X')
import os
os.rename('moved', 'new name')
os.chmod('touched', 0o600)
os.remove('gone')
open('main.py', 'a').write('# the program itself is never one')
"""
    inputs = dict.fromkeys(("same", "d/changed", "moved", "touched", "gone"), b"abc")
    _, files = run(cell, code, inputs)
    assert files == {"d/changed": b"Xbc", "new name": b"abc"}


def test_inputs_are_the_guests_own(cell: Cell) -> None:
    code = """
import os
for name in ('a', 'd', 'd/b'):
    status = os.stat(name)
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid()), name
print(sorted(os.listdir()), open('d/b', 'rb').read())
"""
    ending, files = run(cell, code, {"a": b"", "d/b": b"\0\xff"})
    assert ending.stdout == b"['a', 'd', 'main.py'] b'\\x00\\xff'\n"
    assert files == {}


def test_what_is_no_regular_file_is_told_and_not_followed(cell: Cell) -> None:
    code = """
import os, socket
os.symlink('/etc/passwd', 'passwd')
os.symlink('/proc/1/environ', 'environ')
os.symlink('../../..', 'up')
os.symlink('/work', 'loop')
os.symlink('nowhere', 'broken')
os.mkfifo('fifo')
socket.socket(socket.AF_UNIX).bind('socket')
os.mkdir('d'); os.symlink('/etc', 'd/etc')
try: os.mknod('device', 0o20600, os.makedev(1, 3))
except OSError: pass
"""
    ending, files = run(cell, code)
    assert files == {}
    links = ("passwd", "environ", "up", "loop", "broken", "d/etc")
    special = ("fifo", "socket")
    assert ending.left_out == {
        **dict.fromkeys(links, LeftOut.SYMLINK),
        **dict.fromkeys(special, LeftOut.SPECIAL),
    }


def test_giants_are_told_and_not_read(cell: Cell) -> None:
    code = """
import os
def sparse(name, size):
    with open(name, 'wb') as file: os.truncate(file.fileno(), size)
try: sparse('petabyte', 1 << 50)
except OSError as e: print(e.errno)
sparse('large', 200 << 20)
sparse('hole', 1 << 20)
for n in range(3): open(f'm{n}', 'wb').write(b'x' * (1 << 20))
"""
    ending, files = run(cell, code)
    assert ending.stdout == b"27\n"  # EFBIG
    assert {name: len(content) for name, content in files.items()} == {
        "hole": MB,
        "m0": MB,
        "m1": MB,
        "petabyte": 0,
    }
    assert ending.left_out == {"large": LeftOut.TOO_LARGE, "m2": LeftOut.TOO_MUCH}


def test_many_files_are_counted(cell: Cell) -> None:
    ending, files = run(cell, "for n in range(10_000): open(f'{n:05}', 'w').write('x')")
    most = LIMITS.artifacts
    assert len(files) == most
    assert set(ending.left_out.values()) == {LeftOut.TOO_MANY}
    assert len(files) + len(ending.left_out) + ending.left_out_more == 10_000


def test_deep_folders_end_at_a_level(engine: docker.DockerClient, image: str) -> None:
    code = """
import os
for level in range(1200):
    open('f', 'w').close()
    os.mkdir('d')
    os.chdir('d')
"""
    with started_cell() as cell:
        ending, files = run(cell, code, clean=False)
        assert list(files) == ["f", "d/f", "d/d/f", "d/d/d/f"]
        assert ending.left_out == {"d/d/d/d": LeftOut.TOO_DEEP}
        assert cell.wait_clean() is not None  # such a cell is not used again


def test_what_the_program_closed_to_itself(engine: docker.DockerClient, image: str) -> None:
    code = """
import os
os.makedirs('locked/inner'); open('locked/x', 'w').write('x'); os.chmod('locked', 0)
open('y', 'w').write('y'); os.chmod('y', 0)
os.mkdir('unnamed'); open('unnamed/z', 'w').write('z'); os.chmod('unnamed', 0o600)
open('kept', 'w').write('k')
"""
    with started_cell() as cell:
        ending, files = run(cell, code)
        assert files == {"kept": b"k"}
        closed = ("locked", "y", "unnamed/z")
        assert ending.left_out == dict.fromkeys(closed, LeftOut.UNREADABLE)
        ending, files = run(cell, "import os; os.chmod('.', 0)")
        assert (files, ending.left_out) == ({}, {".": LeftOut.UNREADABLE})


def test_names_of_every_kind(engine: docker.DockerClient, image: str) -> None:
    code = r"""
names = [b'new\nline', b'\xc3', '\u202egpj.exe'.encode(), b'x' * 255, b'-rf', b'CON', b'back\\slash', b'a b',
         b'"quoted"', b'<script>', 'gr\u00fcn'.encode(), b'.hidden']
for name in names: open(b'/work/' + name, 'wb').write(name)
"""
    with started_cell() as cell:
        _, files = run(cell, code)
        assert files == {
            "new\\x0aline": b"new\nline",
            "\\xc3": b"\xc3",
            "\\u202egpj.exe": "\u202egpj.exe".encode(),
            "x" * 255: b"x" * 255,
            "-rf": b"-rf",
            "CON": b"CON",
            "back\\\\slash": b"back\\slash",
            "a b": b"a b",
            '"quoted"': b'"quoted"',
            "<script>": b"<script>",
            "grün": "grün".encode(),
            ".hidden": b".hidden",
        }
        ending, files = run(
            cell, "import os; print(os.listdir()); os.makedirs('.cache/x'); open('.cache/y', 'w')"
        )
        assert ending.stdout == b"['main.py']\n"  # a recycled cell starts empty
        assert (files, ending.left_out) == ({}, {".cache": LeftOut.CACHE})


def test_what_a_program_left_before_it_failed_comes_back(engine: docker.DockerClient, image: str) -> None:
    with started_cell() as cell:
        sink = Kept()
        limits = STANDARD.resolve({"output_bytes": 1024})
        code = b"open('a', 'w').write('a'); print('x' * 5000)"
        ending = cell.run(Program(code, "main.py", limits, collect=LIMITS), sink=sink)
        assert (ending.output_limit, sink.files) == (True, {"a": b"a"})


def test_a_process_that_goes_on_writing_changes_nothing(engine: docker.DockerClient, image: str) -> None:
    code = """
import os
if os.fork() == 0:
    os.setsid()
    while True:
        os.rename('link', 'file') if os.path.lexists('link') else os.symlink('/etc/passwd', 'link')
open('done', 'w').write('done')
"""
    with started_cell() as cell:
        _, files = run(cell, code)
        assert files == {"done": b"done"}
