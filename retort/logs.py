"""Follow the log files of our children, and keep them from growing without end."""

import shutil
from pathlib import Path

LIMIT_BYTES = 8 * 2**20
_CHUNK_BYTES = 256 * 1024


class Follower:
    """Reads what is added to one log file, by whole lines.

    The writer appends, so the file can be cut to nothing under it. What it writes between our copy and our
    cut is lost, which a log may.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def lines(self) -> list[str]:
        """The complete lines added since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                chunk = file.read(_CHUNK_BYTES)
        except FileNotFoundError:
            return []
        self._read += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _CHUNK_BYTES:  # a line without end is shown in pieces
            lines, self._rest = [*lines, self._rest], b""
        return [line.decode(errors="replace") for line in lines]

    def bound(self) -> None:
        """When the file is too large, keep it as the one older file and begin anew."""
        try:
            if self.path.stat().st_size <= LIMIT_BYTES:
                return
        except FileNotFoundError:
            return
        shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
        with self.path.open("r+b") as file:
            file.truncate()
        self._read = 0
