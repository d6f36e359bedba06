"""The host's end of the wire to a runner: frames inside the engine's multiplexed attach stream.

Nothing that comes from a container is trusted: lengths, kinds, counts and types are bounded here, and a
violation is a `ProtocolError`, which ends the cell. The runner's end is in sandbox-images/runner.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

_HEADER = struct.Struct(">Ic")
_STREAM_HEADER = struct.Struct(">BxxxI")
_JOB = struct.Struct(">QBI")
_SIZE = struct.Struct(">I")

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
    CLEAN = b"C"


_KINDS = {kind.value: kind for kind in Kind}

PRELOAD_FRAME = _HEADER.pack(0, b"P")


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
