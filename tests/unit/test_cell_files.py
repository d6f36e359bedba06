"""Files on the wire: both ends agree, and a lying runner brings back no more than was wanted."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort_runner import collect, wire

from domain.files import MB, RESULTS, LeftOut
from tests.unit.test_cell import EXIT, STANDARD, Wire, started
from worker.sandbox import running
from worker.sandbox.frames import (
    Kind,
    ProtocolError,
    collect_frame,
    file_frame,
    parse_artifact,
    parse_collected,
)
from worker.sandbox.running import Ending, Input, Program
from worker.sandbox.stream import CellLost

LIMITS = replace(STANDARD.files, artifacts=2, artifact_mb=1, artifacts_mb=2)
NOTHING = struct.pack(">I", 0)


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.dropped: list[str] = []
        self._name = ""
        self._data = b""

    def begin(self, name: str, size: int) -> None:
        """A file begins."""
        self._name, self._data = name, b""

    def write(self, data: bytes) -> None:
        """More of it."""
        self._data += data

    def end(self) -> None:
        """It is whole."""
        self.files[self._name] = self._data

    def drop(self) -> None:
        """It never will be."""
        self.dropped.append(self._name)


@pytest.fixture
def wire_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """An engine."""
    monkeypatch.setattr(running, "COLLECT_GRACE_S", 0.2)
    made = Wire()
    yield made
    made.socket.close()
    made.runner.close()


def begins(name: bytes, size: int, content: bytes) -> tuple[bytes, bytes]:
    """A file begins, as the runner says it."""
    return b"A", struct.pack(">IQ", len(name), size) + name + content


def goes_on(content: bytes) -> tuple[bytes, bytes]:
    """More of it."""
    return b"A", struct.pack(">I", 0) + content


def left(why: bytes, name: bytes) -> bytes:
    """One thing left out."""
    return why + struct.pack(">H", len(name)) + name


def run(engine: Wire, *said: tuple[bytes, bytes], collect_s: int = 5) -> tuple[Ending, Kept]:
    """A program ended; the runner says this of its files."""
    cell = started(engine)
    engine.say(b"X", orjson.dumps(EXIT))
    for kind, payload in said:
        engine.say(kind, payload)
    sink = Kept()
    limits = replace(LIMITS, collect_s=collect_s)
    try:
        return cell.run(Program(b"", "main.py", STANDARD.defaults, collect=limits), sink=sink), sink
    finally:
        cell.destroy()


def test_files_arrive_whole(wire_: Wire) -> None:
    ending, sink = run(
        wire_,
        begins(b"a", 6, b"abc"),
        goes_on(b"def"),
        begins(b"d/\xff", 0, b""),
        (b"D", struct.pack(">I", 7) + left(collect.SYMLINK, b"l\n") + left(collect.SPECIAL, b"f")),
    )
    assert sink.files == {"a": b"abcdef", "d/\\xff": b""}
    assert ending.left_out == {"l\\x0a": LeftOut.SYMLINK, "f": LeftOut.SPECIAL}
    assert (ending.left_out_more, ending.status, ending.lost) == (7, 0, False)


def test_a_file_that_stops_short_is_none(wire_: Wire) -> None:
    ending, sink = run(wire_, begins(b"a", 6, b"abc"), begins(b"b", 1, b"b"), (b"D", NOTHING))
    assert (sink.files, sink.dropped) == ({"b": b"b"}, ["a"])
    assert ending.left_out == {"a": LeftOut.UNREADABLE}


def test_the_file_with_results_is_one_more(wire_: Wire) -> None:
    names = [RESULTS.encode(), b"a", b"b"]
    _, sink = run(wire_, *(begins(name, 1, b"x") for name in names), (b"D", NOTHING))
    assert set(sink.files) == {RESULTS, "a", "b"}
    ending, sink = run(Wire(), *(begins(name, 1, b"x") for name in (b"a", b"b", b"c")), (b"D", NOTHING))
    assert (set(sink.files), ending.left_out) == ({"a", "b"}, {"c": LeftOut.TOO_MANY})


def test_a_name_too_long_to_show_is_left_out(wire_: Wire) -> None:
    ending, sink = run(wire_, begins(b"\xff" * 1000, 1, b"x"), (b"D", NOTHING))
    assert (sink.files, ending.left_out, ending.left_out_more) == ({}, {"\\xff" * 200: LeftOut.NAME}, 0)


@pytest.mark.parametrize(
    "said",
    [
        [begins(b"a", MB + 1, b"")],
        [begins(b"a", (1 << 64) - 1, b"")],
        [begins(b"a", 1, b"xy")],
        [begins(b"a", 1, b"x"), goes_on(b"y")],
        [goes_on(b"x")],
        [begins(b"a", 1, b"x"), begins(b"a", 1, b"x")],
        [begins(b"%d" % n, 0, b"") for n in range(4)],
        [begins(b"%d" % n, MB, b"") for n in range(3)],
        [(b"A", b"")],
        [(b"A", struct.pack(">IQ", 50, 1) + b"a")],
        [(b"A", struct.pack(">I", 5))],
        [(b"D", b"")],
        [(b"D", NOTHING + b"q\0\1a")],
        [(b"D", NOTHING + b"l\0\5a")],
        [(b"D", NOTHING + b"l")],
        [(b"O", b"late")],
        [(b"X", orjson.dumps(EXIT))],
        [(b"C", b'{"clean": true}')],
    ],
    ids=lambda said: repr(said)[:50],
)
def test_what_no_runner_says_of_files(wire_: Wire, said: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(CellLost):
        run(wire_, *said, (b"D", NOTHING))


def test_a_cell_that_fails_while_files_are_collected_does_not_change_the_verdict(wire_: Wire) -> None:
    cell = started(wire_)
    wire_.say(b"X", orjson.dumps(EXIT))
    for kind, payload in (begins(b"a", 1, b"x"), begins(b"b", 9, b"y")):
        wire_.say(kind, payload)
    wire_.runner.shutdown(socket.SHUT_WR)
    sink = Kept()
    ending = cell.run(Program(b"", "main.py", STANDARD.defaults, collect=LIMITS), sink=sink)
    assert (ending.status, ending.lost, ending.container_oom) == (0, True, False)
    assert sink.files == {"a": b"x"}
    assert ending.left_out == {"b": LeftOut.FAILED, ".": LeftOut.FAILED}


def test_silence_while_files_are_collected_ends(wire_: Wire) -> None:
    ending, sink = run(wire_, begins(b"a", 2, b"x"), collect_s=0)
    assert (ending.status, ending.timed_out, ending.lost) == (0, False, True)
    assert wire_.hung_up()
    assert (sink.files, sink.dropped) == ({}, ["a"])


@given(st.binary(max_size=100))
def test_any_payload_is_understood_or_refused(payload: bytes) -> None:
    for parse in (parse_artifact, parse_collected):
        try:
            parse(payload)
        except ProtocolError:
            continue


def test_both_ends_mean_the_same() -> None:
    sent = collect_frame(LIMITS)
    assert wire.HEADER.unpack_from(sent) == (len(sent) - wire.HEADER.size, wire.COLLECT)
    wanted = collect.Wanted(sent[wire.HEADER.size :])
    found = (wanted.files, wanted.each, wanted.total, wanted.depth, wanted.seconds)
    assert found == (3, MB, 2 * MB, LIMITS.depth, LIMITS.collect_s)
    assert file_frame("ä", b"x")[:5] == wire.HEADER.pack(7, wire.FILE)
    reasons = {name: getattr(collect, name) for name in LeftOut.__members__ if hasattr(collect, name)}
    for name, code in reasons.items():
        assert parse_collected(NOTHING + left(code, b"x"))[0] == [(b"x", LeftOut[name])]
    assert set(LeftOut.__members__) - set(reasons) == {"NAME", "FAILED", "NOT_STORED"}  # the host's own
    assert (Kind.ARTIFACT.value, Kind.COLLECTED.value) == (wire.ARTIFACT, wire.COLLECTED)


def test_an_input_is_sent_in_pieces(wire_: Wire) -> None:
    cell = started(wire_)
    wire_.say(b"X", orjson.dumps(EXIT))
    given_files = [Input("d/big", lambda: [b"a" * 100_000, b"b"]), Input("empty", list)]
    cell.run(Program(b"code", "main.py", STANDARD.defaults, files=given_files))
    cell.destroy()
    sent = bytearray()
    while piece := wire_.runner.recv(1 << 20):
        sent += piece
    frames: list[tuple[bytes, Any]] = []
    while sent:
        length, kind = wire.HEADER.unpack_from(sent)
        frames.append((kind, bytes(sent[5 : 5 + length])))
        del sent[: 5 + length]
    assert [kind for kind, _ in frames] == [wire.FILE] * 4 + [wire.JOB]
    contents = []
    for _, payload in frames[:-1]:
        (length,) = struct.unpack_from(">I", payload)
        contents.append((payload[4 : 4 + length], len(payload) - 4 - length))
    assert contents == [(b"d/big", 65536), (b"", 34464), (b"", 1), (b"empty", 0)]
