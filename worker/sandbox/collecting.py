"""What a runner brings back of the files that a program left: bounded again here, whatever it says."""

from typing import Protocol

from domain.files import MB, RESULTS, FileLimits, LeftOut, shown_name
from worker.sandbox.frames import ProtocolError, parse_artifact, parse_collected
from worker.sandbox.stream import CellLost


class Sink(Protocol):
    """Takes files one after the other. A name comes as it can be shown; it is never a path of the host's."""

    def begin(self, name: str, size: int) -> None:
        """A file begins."""

    def write(self, data: bytes) -> None:
        """More of it."""

    def end(self) -> None:
        """It is complete."""

    def drop(self) -> None:
        """It will never be."""


class Collecting:
    """Takes the frames after a program's end."""

    def __init__(self, limits: FileLimits, sink: Sink | None) -> None:
        self.left_out: dict[str, LeftOut] = {}
        self.more = 0
        self.done = False
        self._limits = limits
        self._sink = sink
        self._names: set[str] = set()
        self._name: str | None = None  # of the file under way, if it is kept
        self._rest = 0
        self._room = limits.artifacts_mb * MB

    def take(self, payload: bytes) -> None:
        """A file that begins, or more of one.

        Raises:
            CellLost: no runner of ours says that.
        """
        try:
            raw, size, content = parse_artifact(payload)
        except ProtocolError as e:
            raise CellLost(f"the runner broke the protocol: {e}") from e
        if raw:
            self._incomplete()
            self._begin(raw, size)
        self._rest -= len(content)
        if self._rest < 0:
            raise CellLost("the runner sent more of a file than it said")
        if self._name is not None and self._sink is not None:
            self._sink.write(content)
            if self._rest == 0:
                self._sink.end()
                self._name = None

    def _begin(self, raw: bytes, size: int) -> None:
        limits = self._limits
        self._room -= size
        self._rest = size
        if size > limits.artifact_mb * MB or self._room < 0 or len(self._names) > limits.artifacts:
            raise CellLost("the runner sent more files than were wanted")
        name = shown_name(raw)
        if name is None:
            self._leave(raw[:200], LeftOut.NAME)
            return
        if name in self._names:
            raise CellLost("the runner sent two files of one name")
        self._names.add(name)
        if len(self._names - {RESULTS}) > limits.artifacts:
            self.left_out[name] = LeftOut.TOO_MANY
            return
        self._name = name
        if self._sink is not None:
            self._sink.begin(name, size)

    def end(self, payload: bytes) -> None:
        """There is no further file; what was left out.

        Raises:
            CellLost: no runner of ours says that.
        """
        try:
            found, more = parse_collected(payload)
        except ProtocolError as e:
            raise CellLost(f"the runner broke the protocol: {e}") from e
        self._incomplete()
        for raw, why in found:
            self._leave(raw, why)
        self.more += more
        self.done = True

    def fail(self) -> None:
        """The cell failed meanwhile: what is complete stays, more will not come."""
        self._incomplete(LeftOut.FAILED)
        self.left_out["."] = LeftOut.FAILED
        self.done = True

    def close(self) -> None:
        """Leave nothing half taken, whatever happened."""
        if not self.done:
            self._incomplete()

    def _incomplete(self, why: LeftOut = LeftOut.UNREADABLE) -> None:
        """The file under way ends here; if it is not whole it is none."""
        if self._name is not None:
            self.left_out[self._name] = why
            self._name = None
            if self._sink is not None:
                self._sink.drop()

    def _leave(self, raw: bytes, why: LeftOut) -> None:
        name = shown_name(raw)
        if name is None:
            self.more += 1
        else:
            self.left_out[name] = why
