"""The measurements that are done, one JSON object a line: what an interruption leaves, to be gone on with.

The first line names the plan and the run. A last line that was cut off in the middle is dropped.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from uuid import uuid4

from retort.bench.measurement import Measurement
from retort.bench.plan import Plan

FORMAT = 1


class JournalError(Exception):
    """The file is no journal, or that of another benchmark."""


class Journal:
    """An open journal. What is in `done` need not be measured again."""

    def __init__(
        self, path: Path, header: Mapping[str, Any], done: dict[str, Measurement], file: BinaryIO
    ) -> None:
        self.path = path
        self.run = str(header["run"])
        self.started_at = str(header["started_at"])
        self.done = done
        self._file = file

    @classmethod
    def open(cls, path: Path, plan: Plan) -> "Journal":
        """The journal of this plan: what there is of it, or a new one.

        Raises:
            JournalError: there is a journal of another plan.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = path.read_bytes() if path.exists() else b""
        kept = kept[: kept.rfind(b"\n") + 1]
        lines = kept.splitlines()
        if not lines:
            header: dict[str, Any] = {
                "format": FORMAT,
                "run": uuid4().hex,
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "plan": plan.digest(),
            }
            kept = json.dumps(header).encode() + b"\n"
            file = _alone(path, "ab")
            file.write(kept)
            file.flush()
            return cls(path, header, {}, file)
        try:
            header = json.loads(lines[0])
            measured = [Measurement.from_dict(json.loads(line)) for line in lines[1:]]
            known = (header["format"], header["plan"])
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"{path} is no journal of a benchmark: {error!r}") from None
        if known != (FORMAT, plan.digest()):
            raise JournalError(
                f"{path} is the journal of another benchmark; name another folder with --out, "
                "or begin anew with --fresh"
            )
        file = _alone(path, "r+b")
        file.truncate(len(kept))
        file.seek(0, os.SEEK_END)
        return cls(path, header, {each.key: each for each in measured}, file)

    def add(self, measurement: Measurement) -> None:
        """Keep a measurement: once this returns, it survives the end of this process."""
        self._file.write(json.dumps(measurement.as_dict()).encode() + b"\n")
        self._file.flush()
        self.done[measurement.key] = measurement

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _alone(path: Path, mode: str) -> BinaryIO:
    """The file, open and locked.

    Raises:
        JournalError: another process has it open.
    """
    file: BinaryIO = path.open(mode)  # type: ignore[assignment]  # a mode that is no literal
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise JournalError(f"{path}: another benchmark is under way in this folder") from None
    return file
