"""`Range` (RFC 9110, section 14): one part of a body."""

import re

from starlette.datastructures import Headers

from api.problems import Kind, Problem

_ONE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def part_of(headers: Headers, size: int, etag: str) -> tuple[int, int] | None:
    """Where the wanted part of `size` bytes starts and ends; None for all of them.

    What is not understood, asks for several parts, or is meant for another version is ignored, as the
    standard wants it.

    Raises:
        Problem: 416, the part lies behind the end.
    """
    found = _ONE.fullmatch(headers.get("range", ""))
    if found is None or headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return None
    if start >= size:
        raise Problem(Kind.RANGE, f"there are {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return start, end
