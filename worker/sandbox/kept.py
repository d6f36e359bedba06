"""Which part of a program's output is kept when it wrote more than it may: head and tail of each stream.

Pure. Sizes in bytes. Nothing is marked in the text itself: whoever shows it knows from the numbers where the
gap is.
"""

#: Bytes that a character of UTF-8 may have after its first.
_MORE = 3


def shares(stdout: int, stderr: int, most: int) -> tuple[int, int]:
    """How much of each stream is kept, `most` in all: half each, and what one does not need is the other's."""
    half = most // 2
    if stdout <= half:
        return stdout, min(stderr, most - stdout)
    if stderr <= half:
        return min(stdout, most - stderr), stderr
    return most - half, half


def cut(written: bytes | bytearray, most: int) -> tuple[bytes, int | None]:
    """At most `most` bytes from both ends of a stream, and how many of them are the head.

    None: nothing is left out. Where both parts are UTF-8 but for the cuts, the cuts are between characters.

    >>> cut(b"0123456789", 4), cut(b"0123", 4)
    ((b'0189', 2), (b'0123', None))
    """
    if len(written) <= most:
        return bytes(written), None
    tail_bytes = most // 2
    head = bytes(written[: most - tail_bytes])
    tail = bytes(written[len(written) - tail_bytes :])
    whole_head, whole_tail = _whole_end(head), _whole_start(tail)
    if _is_text(whole_head) and _is_text(whole_tail):
        head, tail = whole_head, whole_tail
    return head + tail, len(head)


def _whole_end(head: bytes) -> bytes:
    """Without a character that is cut at the end."""
    for back in range(1, min(_MORE, len(head)) + 1):
        byte = head[-back]
        if byte < 0x80:
            return head
        if byte >= 0xC0:  # the first byte of a character: of how many?
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return head if length == back else head[:-back]
    return head


def _whole_start(tail: bytes) -> bytes:
    """Without the rest of a character that is cut at the start."""
    skip = 0
    while skip < min(_MORE, len(tail)) and 0x80 <= tail[skip] < 0xC0:
        skip += 1
    return tail[skip:]


def _is_text(part: bytes) -> bool:
    try:
        part.decode()
    except UnicodeDecodeError:
        return False
    return True
