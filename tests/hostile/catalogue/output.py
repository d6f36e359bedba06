"""Output without end, without newline, without encoding."""

import json

from tests.hostile.entries import Program, Result

LIMIT = 65536
BOUNDED = {"timeout_s": 20, "output_bytes": LIMIT}
NOISE = bytes(range(256)) * 16


def _bounded(result: Result) -> None:
    assert len(result.out) + len(result.err) <= LIMIT
    assert len(result.out) + len(result.err) >= LIMIT // 2
    assert result.job["stdout_truncated"] or result.job["stderr_truncated"]
    assert result.job["stdout_bytes"] + result.job["stderr_bytes"] > LIMIT


def _all_there(result: Result) -> None:
    assert result.out == b"o" * 500_000
    assert result.err == b"e" * 500_000
    assert result.usage["wall_s"] < 10


def _noise(result: Result) -> None:
    assert result.job["stdout_encoding"] == "base64"
    assert result.out == NOISE


def _with_nul(result: Result) -> None:
    assert result.out == b"a\0b\n", result.job["stdout"]
    assert "\\u0000" in json.dumps(result.job["stdout"])


def _dripped(result: Result) -> None:
    assert 1 <= len(result.out) <= 20, result.out
    assert set(result.out) == {ord(".")}


def _is(result: Result, out: bytes) -> None:
    assert result.out == out


def _code(result: Result, code: int) -> None:
    assert result.job["exit_code"] == code


ENTRIES = [
    Program(
        "endless_lines",
        "while True: print('x' * 99)",
        ("output_limit",),
        limits=BOUNDED,
        look=_bounded,
    ),
    Program(
        "endless_on_both_streams",
        "import os\nwhile True:\n    os.write(1, b'o' * 999)\n    os.write(2, b'e' * 999)",
        ("output_limit",),
        limits=BOUNDED,
        look=_bounded,
    ),
    Program(
        "one_endless_line",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        ("output_limit",),
        limits=BOUNDED,
        look=_bounded,
        fast=True,
    ),
    Program(
        "endless_at_the_largest_limit",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        ("output_limit",),
        limits={"timeout_s": 20, "output_bytes": 8 << 20},
    ),
    Program(
        "flood_of_children",
        "import os\nfor _ in range(5): os.fork()\nwhile True: os.write(2, b'e' * 4096)",
        ("output_limit",),
        limits=BOUNDED,
        look=_bounded,
    ),
    Program(
        "much_output_then_the_end",
        "import os\nfor fd, b in ((1, b'o'), (2, b'e')):\n"
        "    left = 500_000\n"
        "    while left: left -= os.write(fd, b * left)",
        look=_all_there,
    ),
    Program(
        "binary_output",
        "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 16)",
        look=_noise,
    ),
    Program(
        "half_a_character", "import os\nos.write(1, '€'.encode()[:2])", look=lambda r: _is(r, "€".encode()[:2])
    ),
    Program("nul_in_output", "print('a\\0b')", look=_with_nul, fast=True),
    Program(
        "terminal_escapes",
        "print('\\x1b[2J\\x1b]0;owned\\x07\\x1b[31m')",
        look=lambda r: _is(r, b"\x1b[2J\x1b]0;owned\x07\x1b[31m\n"),
    ),
    Program(
        "drip_for_ever",
        "import os, time\nwhile True:\n    os.write(1, b'.')\n    time.sleep(0.3)",
        ("timeout",),
        limits={"timeout_s": 2},
        look=_dripped,
    ),
    Program(
        "closes_its_streams",
        "import os, time\nfor fd in (0, 1, 2): os.close(fd)\ntime.sleep(0.3)\nos._exit(7)",
        ("error",),
        look=lambda r: _code(r, 7),
    ),
]
