"""Frames between host and runner: 4 bytes length, 1 byte kind, payload. Big endian, as on every wire.

The host has its own reader and writer of the same (worker/sandbox/frames.py); a test holds them together. The
imports here are few, as everywhere in the runner: they are paid for at the start of every container, and again
by every fork.
"""

from __future__ import annotations

import posix
from struct import Struct, pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = Struct(">Ic")

# host -> runner
JOB = b"J"  # see parse_job
PRELOAD = b"P"  # import the heavy packages now
FILE = b"F"  # an input of the next job, or more of one
COLLECT = b"A"  # what to bring back of the files that the next job leaves

# runner -> host, the payloads JSON objects but for output and files
UP = b"U"  # ready for a job
PRELOADED = b"P"  # nothing is left to import
STDOUT = b"O"
STDERR = b"E"
STAT = b"T"  # usage so far, about ten times a second
PHASE = b"H"  # the program was compiled, or not; its run follows, or the end
EXIT = b"X"  # the job ended
ARTIFACT = b"A"  # a file that it left, or more of one
COLLECTED = b"D"  # there is no further one, and what was left out
CLEAN = b"C"  # the reset ended

#: A longer frame from the host is a fault of ours.
LONGEST = 64 << 20


#: What `parse_job` reads for a program of ours, in a file of this name.
REHEARSED = "main.py"
REHEARSAL = pack(">QBI", 1 << 16, 1, 0) + b"".join(
    pack(">I", len(text)) + text for text in (b"print('a')\n", b"", REHEARSED.encode())
)


class Closed(Exception):
    """The host hung up."""


def send_all(frames: list[tuple[bytes, bytes]]) -> None:
    """Write frames to the host in one go; blocks while the host does not read."""
    parts = []
    for kind, payload in frames:
        parts.append(HEADER.pack(len(payload), kind))
        parts.append(payload)
    whole = b"".join(parts)
    done = posix.write(1, whole)
    while done < len(whole):
        done += posix.write(1, whole[done:])


def _json(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    # Only texts of our own come here; what would need an escape is not worth one.
    return '"' + "".join(c if c.isprintable() and c.isascii() and c not in '"\\' else "?" for c in value) + '"'


def facts_of(**facts: Any) -> bytes:
    """A JSON object of numbers, booleans, plain texts and None."""
    return ("{" + ",".join(f'"{name}":{_json(value)}' for name, value in facts.items()) + "}").encode()


def send_facts(kind: bytes, **facts: Any) -> None:
    """Write one frame with a JSON object."""
    send_all([(kind, facts_of(**facts))])


def _read_exactly(count: int) -> bytes:
    parts = []
    while count:
        part = posix.read(0, min(count, 1 << 20))
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
    """A job frame: the header (`file`, `args`, `env`, `output_bytes`, `reset`), the code, the stdin.

    The payload is: output_bytes (8 bytes), reset (1), number of args (4), then strings, each with 4 bytes of
    length before it: code, stdin, file, the args, and for the rest names and values of the environment.
    """
    output_bytes, reset, count = unpack_from(">QBI", payload)
    at = 13
    parts = []
    while at < len(payload):
        (size,) = unpack_from(">I", payload, at)
        parts.append(payload[at + 4 : at + 4 + size])
        at += 4 + size
    code, stdin, *texts = parts
    file, *rest = [text.decode() for text in texts]
    env = dict(zip(rest[count::2], rest[count + 1 :: 2], strict=True))
    header = {
        "file": file,
        "args": rest[:count],
        "env": env,
        "output_bytes": output_bytes,
        "reset": bool(reset),
    }
    return header, code, stdin
