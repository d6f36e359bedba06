"""The host's end of the wire to a runner: frames inside the engine's multiplexed attach stream.

Nothing that comes from a container is trusted: lengths, kinds, counts and types are bounded here, and a
violation is a `ProtocolError`, which ends the cell. The runner's end is in sandbox-images/runner.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import orjson

from domain.files import MB, FileLimits, LeftOut

_HEADER = struct.Struct(">Ic")
_STREAM_HEADER = struct.Struct(">BxxxI")
_JOB = struct.Struct(">QBI")
_SIZE = struct.Struct(">I")
_COLLECT = struct.Struct(">IQQII")
_ARTIFACT = struct.Struct(">IQ")
_LEFT = struct.Struct(">cH")

#: What runner and host must both say they speak.
PROTOCOL = 4

#: No frame of a runner is longer: it sends output in chunks of 64 KiB, and small JSON objects.
LONGEST = 1 << 17

#: What is kept of the runner's own stderr, for our logs (bytes).
STDERR_KEPT = 16384


class ProtocolError(Exception):
    """The runner broke the protocol; its container cannot be trusted any more."""


class Kind(Enum):
    """Kinds of frame that a runner may send."""

    UP = b"U"
    PRELOADED = b"P"
    STDOUT = b"O"
    STDERR = b"E"
    STAT = b"T"
    PHASE = b"H"
    EXIT = b"X"
    ARTIFACT = b"A"
    COLLECTED = b"D"
    CLEAN = b"C"


_KINDS = {kind.value: kind for kind in Kind}

PRELOAD_FRAME = _HEADER.pack(0, b"P")


#: Bytes of a file in one frame.
FILE_CHUNK = 1 << 16

#: Why the runner left something out, as it says it.
_LEFT_OUT = {
    b"l": LeftOut.SYMLINK,
    b"s": LeftOut.SPECIAL,
    b"c": LeftOut.CACHE,
    b"z": LeftOut.TOO_LARGE,
    b"b": LeftOut.TOO_MUCH,
    b"n": LeftOut.TOO_MANY,
    b"d": LeftOut.TOO_DEEP,
    b"u": LeftOut.UNREADABLE,
    b"t": LeftOut.TIME,
}


def file_frame(name: str, content: bytes) -> bytes:
    """A frame with an input, or with its next bytes where the name is empty. At most `FILE_CHUNK` bytes."""
    raw = name.encode()
    return _HEADER.pack(_SIZE.size + len(raw) + len(content), b"F") + _SIZE.pack(len(raw)) + raw + content


@cache
def collect_frame(limits: FileLimits) -> bytes:
    """The frame that tells the runner what to bring back. One file more: results travel as a file, too."""
    payload = _COLLECT.pack(
        limits.artifacts + 1,
        limits.artifact_mb * MB,
        limits.artifacts_mb * MB,
        limits.depth,
        limits.collect_s * 1000,
    )
    return _HEADER.pack(len(payload), b"A") + payload


def parse_artifact(payload: bytes) -> tuple[bytes, int, bytes]:
    """Name and size in bytes of a file that begins, and its first content; more of the last has no name.

    Raises:
        ProtocolError: it is none.
    """
    if len(payload) < _SIZE.size:
        raise ProtocolError("an artifact without a head")
    (length,) = _SIZE.unpack_from(payload)
    if length == 0:
        return b"", 0, payload[_SIZE.size :]
    end = _ARTIFACT.size + length
    if end > len(payload):
        raise ProtocolError("an artifact without a name")
    return payload[_ARTIFACT.size : end], _ARTIFACT.unpack_from(payload)[1], payload[end:]


def parse_collected(payload: bytes) -> tuple[list[tuple[bytes, LeftOut]], int]:
    """What was left out, by name and reason, and how many more there are.

    Raises:
        ProtocolError: it says nothing of the kind.
    """
    try:
        (more,) = _SIZE.unpack_from(payload)
        at = _SIZE.size
        found = []
        while at < len(payload):
            why, length = _LEFT.unpack_from(payload, at)
            at += _LEFT.size + length
            if at > len(payload):
                raise ProtocolError("a name that is cut")
            found.append((payload[at - length : at], _LEFT_OUT[why]))
    except (struct.error, KeyError) as e:
        raise ProtocolError(f"not what was collected: {payload[:80]!r}") from e
    return found, more


def job_frame(
    *,
    code: bytes,
    stdin: bytes,
    file: str,
    args: Sequence[str],
    env: Mapping[str, str],
    output_bytes: int,
    reset: bool,
) -> bytes:
    """The frame that starts a job; the runner's `wire.parse_job` says how it is laid out."""
    texts = [file, *args, *(text for pair in env.items() for text in pair)]
    parts = [code, stdin, *(text.encode() for text in texts)]
    strings = b"".join(_SIZE.pack(len(part)) + part for part in parts)
    head = _JOB.pack(output_bytes, reset, len(args))
    return _HEADER.pack(len(head) + len(strings), b"J") + head + strings


def parse_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in a frame.

    Raises:
        ProtocolError: it is none.
    """
    try:
        facts = orjson.loads(payload)
    except orjson.JSONDecodeError as e:
        raise ProtocolError(f"not JSON: {payload[:80]!r}") from e
    if not isinstance(facts, dict):
        raise ProtocolError(f"not an object: {payload[:80]!r}")
    return facts


@dataclass(slots=True)
class Demultiplexer:
    """Takes bytes as they come from the attach socket, gives whole frames.

    The engine wraps what the container writes into chunks of its own, with a stream number; stream 1 carries
    frames, stream 2 the runner's stderr, of which the head is kept.
    """

    stderr: bytearray = field(default_factory=bytearray)
    _raw: bytearray = field(default_factory=bytearray)
    _frames: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Add bytes; yields the frames that are complete now.

        Raises:
            ProtocolError: a chunk or frame that cannot be.
        """
        raw = self._raw
        raw += data
        at = 0
        while len(raw) - at >= _STREAM_HEADER.size:
            stream, size = _STREAM_HEADER.unpack_from(raw, at)
            if stream not in (1, 2):
                raise ProtocolError(f"unknown stream {stream}")
            end = at + _STREAM_HEADER.size + size
            if end > len(raw):
                if size > LONGEST * 64:
                    raise ProtocolError(f"a chunk of {size} bytes")
                break
            chunk = raw[at + _STREAM_HEADER.size : end]
            if stream == 1:
                self._frames += chunk
            elif len(self.stderr) < STDERR_KEPT:
                self.stderr += chunk[: STDERR_KEPT - len(self.stderr)]
            at = end
        del raw[:at]
        yield from self._whole()

    def _whole(self) -> Iterator[tuple[Kind, bytes]]:
        frames = self._frames
        at = 0
        try:
            while len(frames) - at >= _HEADER.size:
                length, code = _HEADER.unpack_from(frames, at)
                kind = _KINDS.get(code)
                if kind is None or length > LONGEST:
                    raise ProtocolError(f"frame kind {code!r} of {length} bytes")
                end = at + _HEADER.size + length
                if end > len(frames):
                    break
                payload = bytes(frames[at + _HEADER.size : end])
                at = end
                yield kind, payload
        finally:
            del frames[:at]
