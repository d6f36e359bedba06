"""Files on their way out and in, a piece at a time."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import anyio.to_thread
import httpx

PIECE = 256 * 1024


class FileBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A file as the body of a request; it can be sent again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            while piece := await anyio.to_thread.run_sync(file.read, PIECE):
                yield piece


class Partial:
    """A file that takes its name when all of it is there, and is gone if that never happens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name[:100]}.{uuid4().hex}.part")

    def __enter__(self) -> Self:
        self._file = self._part.open("xb")
        return self

    def write(self, piece: bytes) -> None:
        """Add a piece."""
        self._file.write(piece)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)
