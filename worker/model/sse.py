"""Server-sent events, read as bytes arrive. The caller bounds how many do.

>>> events = Events()
>>> list(events.feed(b"event: note\\ndata: a\\ndata: b\\n\\ndata: un"))
[('note', 'a\\nb')]
>>> list(events.feed(b"finished\\r\\n\\r\\n"))
[('', 'unfinished')]
"""

from collections.abc import Iterator


class Events:
    """An incremental parser: bytes in, (event name, data) out."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """The events that end in this chunk."""
        if self._after_cr and chunk[:1] == b"\n":
            chunk, self._after_cr = chunk[1:], False
        if chunk:
            self._after_cr = chunk[-1:] == b"\r"
        *lines, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            if line[:1] == b":" or not (line or self._data or self._name):
                continue  # a comment, or nothing after nothing: a flood of them must not cost much
            yield from self._take(line)
        self._line += rest

    def close(self) -> Iterator[tuple[str, str]]:
        """The event that the end of the stream cut short of its empty line, if it has data."""
        line = bytes(self._line)
        self._line.clear()
        if line:
            yield from self._take(line)
        yield from self._take(b"")

    def _take(self, line: bytes) -> Iterator[tuple[str, str]]:
        if not line:
            if self._data:
                yield self._name, "\n".join(self._data)
            self._name, self._data = "", []
            return
        field, _, value = line.decode("utf-8", "replace").removeprefix("\ufeff").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
