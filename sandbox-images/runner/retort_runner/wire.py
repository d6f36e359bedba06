"""Frames between host and runner: 4 bytes length, 1 byte kind, payload. Big endian, as on every wire.

The host has its own reader and writer of the same (worker/sandbox/frames.py); a test holds them together.
"""

import json
import os
import struct
from typing import Any

HEADER = struct.Struct(">Ic")

# host -> runner
JOB = b"J"  # 4 bytes header length, header (JSON), code, stdin
PRELOAD = b"P"  # import the heavy packages now

# runner -> host
UP = b"U"  # ready for a job (JSON facts)
PRELOADED = b"P"  # the zygote is ready (JSON facts)
STDOUT = b"O"
STDERR = b"E"
STAT = b"T"  # usage so far, about twice a second (JSON)
EXIT = b"X"  # the job ended (JSON facts)
CLEAN = b"C"  # the reset ended (JSON facts)

#: A longer frame from the host is a fault of ours.
LONGEST = 64 << 20


class Closed(Exception):
    """The host hung up."""


def send(kind: bytes, payload: bytes | memoryview = b"") -> None:
    """Write one frame to the host; blocks while the host does not read."""
    header = HEADER.pack(len(payload), kind)
    done = os.writev(1, (header, payload))
    if done < len(header) + len(payload):
        rest = memoryview(header + bytes(payload))[done:]
        while rest:
            rest = rest[os.write(1, rest) :]


def send_json(kind: bytes, facts: dict[str, Any]) -> None:
    """Write one frame with a JSON object."""
    send(kind, json.dumps(facts).encode())


def _read_exactly(count: int) -> bytes:
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            raise Closed
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive() -> tuple[bytes, bytes]:
    """Read one frame: its kind and payload.

    Raises:
        Closed: the host hung up, or spoke nonsense.
    """
    length, kind = HEADER.unpack(_read_exactly(HEADER.size))
    if length > LONGEST:
        raise Closed
    return kind, _read_exactly(length)


def parse_job(payload: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """A job frame's header, code and stdin."""
    (size,) = struct.unpack_from(">I", payload)
    header: dict[str, Any] = json.loads(payload[4 : 4 + size])
    code_end = 4 + size + int(header["code_bytes"])
    return header, payload[4 + size : code_end], payload[code_end:]
