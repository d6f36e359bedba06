"""The wire between host and runner: both ends agree, and the host survives whatever it is sent."""

import json
import os
import struct
from contextlib import suppress
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort_runner import wire

from worker.sandbox.frames import (
    LONGEST,
    PRELOAD_FRAME,
    STDERR_KEPT,
    Demultiplexer,
    Kind,
    ProtocolError,
    job_frame,
    parse_object,
)

FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300)), max_size=8)
CUTS = st.lists(st.integers(0, 3000), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def frame(kind: bytes, payload: bytes) -> bytes:
    """As the runner writes it."""
    return wire.HEADER.pack(len(payload), kind) + payload


def chunk(data: bytes, stream: int = 1) -> bytes:
    """As the engine wraps it."""
    return struct.pack(">BxxxI", stream, len(data)) + data


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The same bytes in pieces."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[a:b] for a, b in pairwise(places)]


def fed(demultiplexer: Demultiplexer, pieces: list[bytes]) -> list[tuple[Kind, bytes]]:
    """All frames out of the pieces."""
    return [found for piece in pieces for found in demultiplexer.feed(piece)]


@given(FRAMES, CUTS, CUTS, st.binary(max_size=100))
def test_frames_come_out_whole_however_the_bytes_are_split(
    frames: list[tuple[Kind, bytes]],
    engine_cuts: list[int],
    socket_cuts: list[int],
    noise: bytes,
) -> None:
    written = b"".join(frame(kind.value, payload) for kind, payload in frames)
    chunks = [chunk(part) for part in cut(written, engine_cuts)]
    # The runner's own stderr comes in between, anywhere.
    carried = chunk(noise, 2).join([b"", *chunks, b""])
    demultiplexer = Demultiplexer()
    assert fed(demultiplexer, cut(carried, socket_cuts)) == frames
    assert demultiplexer.stderr == noise * (len(chunks) + 1)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_bytes_give_frames_or_a_protocol_error(pieces: list[bytes]) -> None:
    demultiplexer = Demultiplexer()
    with suppress(ProtocolError):
        for kind, payload in fed(demultiplexer, pieces):
            assert isinstance(kind, Kind)
            assert len(payload) <= LONGEST


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_any_frames_inside_good_chunks_give_frames_or_a_protocol_error(pieces: list[bytes]) -> None:
    with suppress(ProtocolError):
        fed(Demultiplexer(), [chunk(piece) for piece in pieces])


@pytest.mark.parametrize(
    "carried",
    [
        chunk(b"x", 0),
        chunk(b"x", 3),
        chunk(b"x", 255),
        struct.pack(">BxxxI", 1, 0xFFFFFFFF),
        struct.pack(">BxxxI", 2, 0xFFFFFFFF),
        chunk(frame(b"J", b"{}")),  # the host's own kind
        chunk(frame(b"\0", b"")),
        chunk(wire.HEADER.pack(LONGEST + 1, wire.STDOUT)),
        chunk(wire.HEADER.pack(0xFFFFFFFF, wire.STDOUT)),
    ],
    ids=repr,
)
def test_what_cannot_be_ends_the_conversation(carried: bytes) -> None:
    with pytest.raises(ProtocolError):
        fed(Demultiplexer(), [carried])


def test_frames_before_a_violation_are_given() -> None:
    frames = Demultiplexer().feed(chunk(frame(wire.STDOUT, b"good") + frame(b"?", b"bad")))
    assert next(frames) == (Kind.STDOUT, b"good")
    with pytest.raises(ProtocolError):
        next(frames)


def test_the_longest_frame_passes() -> None:
    longest = b"x" * LONGEST
    assert fed(Demultiplexer(), [chunk(frame(wire.STDOUT, longest))]) == [(Kind.STDOUT, longest)]


def test_of_the_runners_stderr_only_the_head_is_kept() -> None:
    demultiplexer = Demultiplexer()
    for _ in range(100):
        assert fed(demultiplexer, [chunk(b"e" * 1000, 2)]) == []
    assert demultiplexer.stderr == b"e" * STDERR_KEPT


def test_both_ends_know_the_same_kinds() -> None:
    names = ["UP", "PRELOADED", "STDOUT", "STDERR", "STAT", "PHASE", "EXIT", "ARTIFACT", "COLLECTED", "CLEAN"]
    assert {kind.name: kind.value for kind in Kind} == {name: getattr(wire, name) for name in names}
    assert frame(wire.PRELOAD, b"") == PRELOAD_FRAME
    # What the runner sends at most in one frame of output fits.
    assert LONGEST > 1 << 16


HEADERS = st.fixed_dictionaries({"file": st.text(), "args": st.lists(st.text())})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(
    code=st.binary(max_size=500),
    stdin=st.binary(max_size=500),
    file=TEXT,
    args=st.lists(TEXT, max_size=4),
    env=st.dictionaries(TEXT, TEXT, max_size=4),
    output_bytes=st.integers(0, 1 << 40),
    reset=st.booleans(),
)
def test_the_runner_reads_a_job_as_the_host_wrote_it(
    code: bytes, stdin: bytes, file: str, args: list[str], env: dict[str, str], output_bytes: int, reset: bool
) -> None:
    header = {"file": file, "args": args, "env": env, "output_bytes": output_bytes, "reset": reset}
    sent = job_frame(
        code=code, stdin=stdin, file=file, args=args, env=env, output_bytes=output_bytes, reset=reset
    )
    length, kind = wire.HEADER.unpack_from(sent)
    assert kind == wire.JOB
    assert length == len(sent) - wire.HEADER.size <= wire.LONGEST
    assert wire.parse_job(sent[wire.HEADER.size :]) == (header, code, stdin)


FACTS = st.dictionaries(
    st.sampled_from("abc"),
    st.none()
    | st.booleans()
    | st.integers(0, 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
)


@given(FACTS)
def test_the_host_reads_facts_as_the_runner_wrote_them(facts: dict[str, object]) -> None:
    read, write = os.pipe()
    saved = os.dup(1)
    try:
        os.dup2(write, 1)
        wire.send_facts(wire.EXIT, **facts)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(write)
    with os.fdopen(read, "rb") as end:
        sent = end.read()
    assert wire.HEADER.unpack_from(sent) == (len(sent) - wire.HEADER.size, wire.EXIT)
    found = parse_object(sent[wire.HEADER.size :])
    for name, value in facts.items():
        if isinstance(value, str):  # what would need an escape is replaced
            assert len(found[name]) == len(value)
        else:
            assert found[name] == value
    assert found.keys() == facts.keys()


@given(st.dictionaries(st.text(), JSON))
def test_objects_pass(facts: dict[str, object]) -> None:
    # Written as the runner does.
    assert parse_object(json.dumps(facts).encode()) == facts


@given(st.binary(max_size=200) | JSON.map(orjson.dumps))
def test_anything_else_is_a_protocol_error(payload: bytes) -> None:
    try:
        facts = parse_object(payload)
    except ProtocolError:
        return
    assert type(facts) is dict


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"1", b'{"a": NaN}', b"{", b'"\xff"', b"[" * 10_000])
def test_what_is_no_object(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_object(payload)
