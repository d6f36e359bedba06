"""Files that go into a job and come out of it: their limits, and what their names may be.

>>> wrong_name("data/in.csv") is None
True
>>> wrong_name("../x")
'must not have "." or ".." as a part'
>>> shown_name(b"a b.txt"), shown_name(b"new\\nline"), shown_name(b"\\xc3")
('a b.txt', 'new\\\\x0aline', '\\\\xc3')
"""

import codecs
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

MB = 1 << 20

#: Bytes of one part of a name, as file systems have it, and of a whole name.
MOST_PART_BYTES = 255
MOST_NAME_BYTES = 1024

#: Parts of an input's name.
MOST_PARTS = 8

#: A folder of the work folder in which what is not an artifact travels. No input may be there.
RESERVED = ".retort"

#: In the reserved folder: tables and charts, as JSON.
RESULTS = f"{RESERVED}/results.json"

#: Bytes of a text that are kept for a model's next turn.
HEAD_BYTES = 1024

#: Files of one job that a request may name, whatever its profile says.
MOST_INPUTS = 256


class LeftOut(StrEnum):
    """Why something in the work folder did not become an artifact."""

    SYMLINK = "symlink"  # never followed
    SPECIAL = "special"  # a fifo, socket or device; never opened
    CACHE = "cache"  # a folder in which programs keep what they can make again
    TOO_LARGE = "too_large"  # larger than one artifact may be; sparse files count with their holes
    TOO_MUCH = "too_much"  # all artifacts together would have been too large
    TOO_MANY = "too_many"
    TOO_DEEP = "too_deep"  # a folder whose content was not looked at
    UNREADABLE = "unreadable"  # the program took its own rights away, or it could not be read
    NAME = "name"  # too long to be told
    TIME = "time"  # collecting took too long
    FAILED = "failed"  # the sandbox ended while its files were collected
    NOT_STORED = "not_stored"  # our storage did not take it


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Limits of a profile: counts, MB (2**20 bytes), levels of folders, seconds."""

    inputs: int
    input_mb: int
    inputs_mb: int
    artifacts: int
    artifact_mb: int
    artifacts_mb: int
    depth: int
    collect_s: int


def text_head(head: bytes, *, whole: bool) -> str | None:
    """The beginning of a file as text; None where it is none. `whole`: there is no more of the file.

    >>> text_head(b"a,b\\n1,2\\n", whole=True), text_head("caf\u00e9".encode()[:-1], whole=False)
    ('a,b\\n1,2\\n', 'caf')
    >>> text_head(b"\\x89PNG\\r\\n", whole=False) is None and text_head(b"a\\x00b", whole=True) is None
    True
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return None
    return None if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text) else text


def wrong_name(name: str) -> str | None:
    """What is wrong with the name of an input; None if it may be used."""
    if not name:
        return "must not be empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "must be valid UTF-8"
    if size > MOST_NAME_BYTES:
        return f"must have at most {MOST_NAME_BYTES} bytes"
    if any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in name):
        return "must not contain control characters"
    if name.startswith("/"):
        return "must be relative to the work folder"
    parts = name.split("/")
    if "" in parts:
        return "must not have an empty part"
    if "." in parts or ".." in parts:
        return 'must not have "." or ".." as a part'
    if any(len(part.encode()) > MOST_PART_BYTES for part in parts):
        return f"must have at most {MOST_PART_BYTES} bytes in each part"
    if len(parts) > MOST_PARTS:
        return f"must have at most {MOST_PARTS} parts"
    if parts[0] == RESERVED:
        return f"must not be in {RESERVED}, which is reserved"
    return None


def clash(names: Iterable[str], program: Collection[str]) -> tuple[int, str] | None:
    """The first name that cannot be beside the ones before it or the program's own: its index, and why."""
    files = set(program)
    folders: set[str] = set()
    for index, name in enumerate(names):
        if name in files:
            reason = "is the name of the program itself" if name in program else "is given twice"
            return index, reason
        parts = name.split("/")
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if name in folders or above & files:
            return index, "is a file and a folder at once"
        files.add(name)
        folders |= above
    return None


def shown_name(raw: bytes) -> str | None:
    """A file's name as it can be shown, stored and sent; None where it is too long for that.

    What does not print (controls, marks that turn the direction of text, bytes that are not UTF-8) is written
    as `\\x0a` or `\\u202e`, and a backslash as two, so that no two names are shown alike.
    """
    text = raw.decode("utf-8", "surrogateescape")
    shown = "".join(_shown(c) for c in text)
    return shown if len(shown) <= MOST_NAME_BYTES else None


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def file_key(file_id: UUID) -> str:
    """Where an uploaded file is in the storage."""
    return f"files/{file_id}"


def artifact_key(artifact_id: UUID) -> str:
    """Where an artifact is in the storage."""
    return f"artifacts/{artifact_id}"
