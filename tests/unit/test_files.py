"""Names of files, their types, parts of them, and how a browser is told of them: the pure parts."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from api.problems import Problem
from api.ranges import part_of
from api.routes.artifacts import disposition
from domain.files import MOST_NAME_BYTES, clash, shown_name, wrong_name
from domain.results import MOST_BYTES, believed
from storage.media import media_type

GOOD = (
    "a",
    "a.txt",
    "data/in.csv",
    ".hidden",
    "-rf",
    "CON",
    "grün/日本.csv",
    "a b",
    "x" * 255,
    "a/b/c/d/e/f/g/h",
)
WRONG = {
    "": "empty",
    "/etc/passwd": "relative",
    "../x": '"."',
    "a/../../x": '"."',
    "..": '"."',
    ".": '"."',
    "a/./b": '"."',
    "a//b": "empty part",
    "a/": "empty part",
    "a\0b": "control",
    "a\nb": "control",
    "a\x7fb": "control",
    "a\x85b": "control",
    "\ud800": "UTF-8",
    "x" * 256: "255",
    "é" * 128: "255",
    "/".join("abcdefghi"): "8 parts",
    "/".join(["x" * 200] * 6): str(MOST_NAME_BYTES),
    ".retort/results.json": "reserved",
    ".retort": "reserved",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_name_that_may_be_used(name: str) -> None:
    assert wrong_name(name) is None


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_may_not(name: str) -> None:
    assert WRONG[name] in str(wrong_name(name))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a", "b/c", "b/d"], None),
        (["a", "a"], (1, "is given twice")),
        (["a", "a/b"], (1, "is a file and a folder at once")),
        (["a/b", "a"], (1, "is a file and a folder at once")),
        (["x", "main.py"], (1, "is the name of the program itself")),
        (["main"], (0, "is the name of the program itself")),
        (["main.py/x"], (0, "is a file and a folder at once")),
    ],
)
def test_names_that_cannot_be_beside_each_other(names: list[str], found: tuple[int, str] | None) -> None:
    assert clash(names, ("main.py", "main")) == found


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=2, unique=True))
def test_no_two_names_are_shown_alike(raw: list[bytes]) -> None:
    one, other = map(shown_name, raw)
    assert one != other
    assert str(one).isprintable()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"a\nb", "a\\x0ab"),
        (b"\xff", "\\xff"),
        (b"a\\b", "a\\\\b"),
        ("\u202egpj.exe".encode(), "\\u202egpj.exe"),
        ("ok שלום".encode(), "ok שלום"),
        (b"x" * 5000, None),
    ],
)
def test_how_a_name_is_shown(raw: bytes, shown: str | None) -> None:
    assert shown_name(raw) == shown


@pytest.mark.parametrize("name", ['a"b.txt', "a\\b", "x;y", "a%41", "grün.csv", "d/e.txt", "\u202e", "a'b"])
def test_a_browser_is_told_of_an_attachment_and_its_exact_name(name: str) -> None:
    told = disposition(name)
    assert told.isascii()
    assert told.startswith('attachment; filename="')
    plain, _, exact = told.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert not set(plain) & set('"\\%;')
    assert unquote(exact) == name.rpartition("/")[2]


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.csv", b"", "text/csv"),
        ("a.CSV", b"", "text/csv"),
        ("a.html", b"", "text/html"),
        ("a.png", b"not one", "image/png"),
        ("a.txt", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("a", b"RIFF1234WEBPVP8 ", "image/webp"),
        ("a.tar.gz", b"", "application/octet-stream"),
        ("a", b"", "application/octet-stream"),
        ("http://x/a.txt", b"", "text/plain"),
        ("data:text/html,x", b"", "application/octet-stream"),
    ],
)
def test_a_media_type(name: str, head: bytes, expected: str) -> None:
    assert media_type(name, head) == expected


@given(st.text(max_size=30), st.binary(max_size=16))
def test_every_name_has_some_media_type(name: str, head: bytes) -> None:
    found = media_type(name, head)
    assert found.isascii()
    assert found.isprintable()
    assert "/" in found


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, None),
        ({"range": "bytes=0-3"}, (0, 4)),
        ({"range": "bytes=4-"}, (4, 10)),
        ({"range": "bytes=-3"}, (7, 10)),
        ({"range": "bytes=-30"}, (0, 10)),
        ({"range": "bytes=8-99"}, (8, 10)),
        ({"range": "bytes=5-2"}, None),
        ({"range": "bytes=0-1,3-4"}, None),
        ({"range": "bytes=-"}, None),
        ({"range": "lines=1-2"}, None),
        ({"range": "bytes=" + "9" * 99 + "-"}, None),
        ({"range": "bytes=0-3", "if-range": '"x"'}, (0, 4)),
        ({"range": "bytes=0-3", "if-range": '"old"'}, None),
    ],
    ids=str,
)
def test_a_part_of_ten_bytes(headers: dict[str, str], part: tuple[int, int] | None) -> None:
    assert part_of(Headers(headers), 10, '"x"') == part


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=999999999999999-"])
def test_a_part_behind_the_end(asked: str) -> None:
    with pytest.raises(Problem):
        part_of(Headers({"range": asked}), 10, '"x"')


CHART: dict[str, Any] = {"type": "chart", "artifact": "f.png", "title": None, "axes": [], "truncated": False}
TABLE: dict[str, Any] = {
    "type": "table",
    "columns": [{"name": "a", "dtype": "int64"}],
    "index": [0],
    "rows": [[1]],
    "total_rows": 1,
    "total_columns": 1,
    "truncated": False,
}


def test_what_a_program_says_that_it_showed() -> None:
    said = [CHART, TABLE, {"type": "value", "text": "a\0b"}]
    assert believed(json.dumps(said).encode(), {"f.png"}) == [
        CHART,
        TABLE,
        {"type": "value", "text": "a\N{REPLACEMENT CHARACTER}b"},
    ]


def test_a_chart_points_at_an_artifact_or_at_nothing() -> None:
    assert believed(json.dumps([CHART]).encode(), set()) == [{**CHART, "artifact": None}]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{}",
        b"[[]]",
        b'[{"type": "html", "text": "<script>"}]',
        b'[{"type": "value", "text": "x", "more": 1}]',
        b'[{"type": "value", "text": "\\ud800"}]',
        json.dumps([{"type": "value", "text": "x" * 6000}]).encode(),
        json.dumps([{**TABLE, "rows": [[1]] * 101}]).encode(),
        json.dumps([{**TABLE, "rows": [[[1]]]}]).encode(),
        json.dumps([{**TABLE, "total_rows": -1}]).encode(),
        json.dumps([{**TABLE, "total_rows": 10**400}]).encode(),
        json.dumps([CHART] * 25).encode(),
        b"[" * 100_000,
        b'[{"type": "value", "text": NaN}]',
        b" " * (MOST_BYTES + 1) + b"[]",
    ],
    ids=lambda said: said[:40].decode(),
)
def test_what_is_not_believed(said: bytes) -> None:
    assert not believed(said, {"f.png"})


@given(st.binary(max_size=200))
def test_whatever_a_program_says_it_is_believed_or_not(said: bytes) -> None:
    believed(said, set())
