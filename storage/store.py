"""The storage: objects under keys of our own making, in a local folder or in a bucket.

One URL says where: `file:///folder` or `s3://bucket/prefix` (with the usual AWS_… variables for endpoint and
keys); whatever else obstore knows works, too. API and worker must be told the same. Keys are made of random ids
alone, never of a name that a client or a program chose.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Bytes read at a time, and kept in memory before a file of ours goes to disk.
PIECE = 1 << 18
SPOOLED = 1 << 20

#: Objects listed at a time.
_PAGE = 500

#: Seconds for one request to a bucket, and for all tries of one.
_REQUEST_S = 30
_TRIES_S = 60


class StorageError(Exception):
    """The storage does not answer, or refuses."""


class Missing(StorageError):
    """There is no such object."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its key, and when it was written."""

    key: str
    modified: datetime


def default_url(state_dir: Path) -> str:
    """The local folder that is used where nothing else is set."""
    return (state_dir.absolute() / "storage").as_uri()


def spool() -> IO[bytes]:
    """A file that is nobody else's and disappears when it is closed; small ones stay in memory."""
    return SpooledTemporaryFile(max_size=SPOOLED, prefix="retort-")


class Storage:
    """Opened once in a process. Methods may be called from any thread.

    Raises:
        StorageError: by every method, when the storage does not do it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: ObjectStore | None = None

    @property
    def _store(self) -> ObjectStore:
        # When first needed: a process whose jobs have no files needs no storage.
        if self._opened is None:
            if self._url.startswith("file://"):
                folder = Path(self._url.removeprefix("file://"))
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if folder.stat().st_uid != os.geteuid():
                    raise StorageError(f"the storage folder {folder} belongs to another user")
                self._opened = from_url(self._url)
            else:
                self._opened = _bucket(self._url)
        return self._opened

    def put(self, key: str, content: IO[bytes]) -> None:
        """Store all of a file, from its start. An object appears whole or not at all."""
        content.seek(0)
        with _told():
            obstore.put(self._store, key, _readable(content))

    def read(self, key: str) -> Iterator[bytes]:
        """The content of an object, in pieces."""
        with _told():
            yield from map(bytes, obstore.get(self._store, key).stream(min_chunk_size=PIECE))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with suppress(Missing), _told():
            obstore.delete(self._store, key)

    def pages(self, prefix: str) -> Iterator[list[Stored]]:
        """All objects below a prefix, some at a time, in no order."""
        with _told():
            for page in obstore.list(self._store, prefix=prefix, chunk_size=_PAGE):
                yield [Stored(meta["path"], meta["last_modified"]) for meta in page]

    # The API's half: the same for an event loop.

    async def put_async(self, key: str, content: IO[bytes]) -> None:
        """As `put`."""
        content.seek(0)
        with _told():
            await obstore.put_async(self._store, key, _readable(content))

    async def open_async(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object from `start` up to `end`, in pieces; found before the first is asked for."""
        with _told():
            options: Any = {"range": (start, end)} if end is not None else {}
            got = await obstore.get_async(self._store, key, options=options)

        async def pieces() -> AsyncIterator[bytes]:
            with _told():
                async for piece in got.stream(min_chunk_size=PIECE):
                    yield bytes(piece)

        return pieces()

    async def delete_async(self, key: str) -> None:
        """As `delete`."""
        with suppress(Missing), _told():
            await obstore.delete_async(self._store, key)


def _bucket(url: str) -> ObjectStore:
    retry: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=_TRIES_S)}
    options: Any = {
        "timeout": timedelta(seconds=_REQUEST_S),
        "connect_timeout": timedelta(seconds=5),
        # The library reads the other AWS_… variables itself.
        "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
    }
    with _told():
        return from_url(url, client_options=options, retry_config=retry)


def _readable(content: IO[bytes]) -> Any:
    """What obstore takes: bytes for what is in memory, else the file itself."""
    rolled: Callable[[], None] | None = getattr(content, "rollover", None)
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    return content.read() if rolled is not None and size <= SPOOLED else content


@contextmanager
def _told() -> Iterator[None]:
    """Whatever goes wrong in the library is one of our two errors; the first line of its text says what."""
    try:
        yield
    except FileNotFoundError as e:
        raise Missing("there is no such object") from e
    except (BaseError, OSError) as e:
        raise StorageError(f"the storage failed: {type(e).__name__}: {str(e).splitlines()[0][:200]}") from e
