"""A job's files between storage and sandbox: inputs fetched ahead, artifacts stored as they come."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any
from uuid import UUID

from domain.files import HEAD_BYTES, RESULTS, LeftOut, artifact_key, file_key, text_head
from domain.ids import new_id
from domain.results import MOST_BYTES
from storage.media import media_type
from storage.store import PIECE, Missing, Storage, StorageError, spool
from worker import faults
from worker.claimed import ClaimedJob
from worker.sandbox.running import Input

log = logging.getLogger(__name__)


class InputGone(Exception):
    """An input is no longer there, or no longer what it was; the message says which."""


@contextmanager
def inputs(job: ClaimedJob, storage: Storage) -> Iterator[list[Input]]:
    """A job's files, all of them here before a sandbox is taken.

    Raises:
        InputGone: one was deleted meanwhile; running the job again will not help.
        StorageError: the storage does not answer.
    """
    with ExitStack() as closing:
        found: list[Input] = []
        at = 0
        for given in job.files:
            name, size = given["name"], given["size"]
            if given["file"] is None:
                found.append(_inline(name, job.inline_files[at : at + size]))
                at += size
            else:
                copy = closing.enter_context(spool())
                _fetch(storage, given, copy)
                found.append(_spooled(name, copy))
        yield found


def _inline(name: str, content: bytes) -> Input:
    return Input(name, lambda: [content])


def _spooled(name: str, copy: IO[bytes]) -> Input:
    def read() -> Iterator[bytes]:
        copy.seek(0)
        while piece := copy.read(PIECE):
            yield piece

    return Input(name, read)


def _fetch(storage: Storage, given: dict[str, Any], copy: IO[bytes]) -> None:
    digest = hashlib.sha256()
    try:
        for piece in storage.read(file_key(UUID(given["file"]))):
            digest.update(piece)
            copy.write(piece)
    except OSError as e:  # our own disk is full
        raise StorageError(f"an input cannot be kept here: {e}") from e
    except Missing:
        raise InputGone(f"the input {given['name']!r} was deleted before the job ran") from None
    if digest.hexdigest() != given["sha256"]:
        raise InputGone(f"the input {given['name']!r} is not what was uploaded")


class Artifacts:
    """A sink of one run: stores each file under a random id, and keeps a list for the database.

    What was stored and is then not recorded, because the lease was lost or we died, belongs to nobody; the
    sweeper removes it.
    """

    def __init__(self, storage: Storage, *, heads: bool = False) -> None:
        """`heads`: keep with each file how it begins, if it is a text."""
        self._heads = heads
        self.kept: list[dict[str, Any]] = []
        self.not_stored: dict[str, LeftOut] = {}
        self.results = b""
        self._storage = storage
        self._file: IO[bytes] | None = None
        self._name = ""
        self._size = 0
        self._digest = hashlib.sha256()

    def begin(self, name: str, size: int) -> None:
        """A file begins; `name` as it can be shown."""
        self._file, self._name, self._size = spool(), name, size
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """More of it."""
        if self._file is None:  # given up
            return
        try:
            self._file.write(data)
        except OSError:  # our own disk is full
            self._give_up()
        self._digest.update(data)

    def end(self) -> None:
        """It is complete: store it."""
        if self._file is None:
            return
        try:
            if self._name == RESULTS:
                self._file.seek(0)
                self.results = self._file.read(MOST_BYTES + 1)
            else:
                self._store(self._file)
        except OSError:  # as in `write`: some of it was still in memory
            self._give_up()
        finally:
            self.drop()

    def drop(self) -> None:
        """Forget the file under way."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what it cannot write any more is not needed
                file.close()

    def _give_up(self) -> None:
        log.exception("an artifact was not stored")
        self.not_stored[self._name] = LeftOut.NOT_STORED
        self.drop()

    def _store(self, file: IO[bytes]) -> None:
        file.seek(0)
        head = file.read(HEAD_BYTES)
        made = new_id()
        try:
            self._storage.put(artifact_key(made), file)
        except StorageError:
            self._give_up()
            return
        faults.at("artifact_stored")
        self.kept.append(
            {
                "id": str(made),
                "name": self._name,
                "media_type": media_type(self._name, head),
                "size": self._size,
                "sha256": self._digest.hexdigest(),
                "head": text_head(head, whole=self._size <= len(head)) if self._heads else None,
            }
        )
